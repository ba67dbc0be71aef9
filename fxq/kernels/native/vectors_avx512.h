// The few vector operations that the kernels of bytes need, in 512 bits. vectors_avx2.h has the same
// names in 256 bits: kernels are written once (lines.h, strips.h, ...) and compiled for both.
//
// WIDTH bytes widen to four vectors of 32 bits in the order of unpack: within each 128-bit lane, bytes
// 0-3, 4-7, 8-11 and 12-15. narrow() packs in the inverse order, so that nothing needs a permute.
#pragma once
#include "target_avx512.h"

namespace fxq {
namespace {

constexpr int32_t WIDTH = 64, LANES = WIDTH / 16, SUMS = 16;  // of 32 registers
using Vector = __m512i;
using Floats = __m512;
struct Quad {
  Floats v[4];
};
struct Sums {
  Vector v[4];
};

inline Vector load(const void* p) { return _mm512_loadu_si512(p); }
inline Floats load_floats(const void* p) { return _mm512_loadu_ps(p); }
inline void store(void* p, Vector x) { _mm512_storeu_si512(p, x); }
inline void store_floats(void* p, Floats x) { _mm512_storeu_ps(p, x); }
inline void store(uint8_t* p, Vector x, int64_t bytes) {  // at most WIDTH
  if (bytes >= WIDTH) return store(p, x);
  _mm512_mask_storeu_epi8(p, (__mmask64(1) << bytes) - 1, x);
}
// x with its bytes from `first` on taken from p + first; the others are not read.
inline Vector merge(Vector x, int32_t first, const uint8_t* p) {
  return _mm512_mask_loadu_epi8(x, ~__mmask64(0) << first, p);
}
// The first `count` numbers, at most a vector's: the tensors of a caller have no SLACK behind them.
inline __mmask16 first(int64_t count) {
  return count >= 16 ? 0xffff : __mmask16((1u << count) - 1);
}
inline Floats load_floats(const void* p, int64_t count) {
  return _mm512_maskz_loadu_ps(first(count), p);
}
inline void store_floats(void* p, Floats x, int64_t count) {
  _mm512_mask_storeu_ps(p, first(count), x);
}
inline Vector zeros() { return _mm512_setzero_si512(); }
inline Vector bytes_of(int32_t x) { return _mm512_set1_epi8(char(x)); }
inline Vector ints_of(int32_t x) { return _mm512_set1_epi32(x); }
inline Vector words_of(int32_t x) { return _mm512_set1_epi16(short(x)); }
inline Floats floats_of(float x) { return _mm512_set1_ps(x); }

inline Vector max_bytes(Vector a, Vector b) { return _mm512_max_epu8(a, b); }
inline Vector min_bytes(Vector a, Vector b) { return _mm512_min_epu8(a, b); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }  // b where a is NaN
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats as_floats(Vector x) { return _mm512_castsi512_ps(x); }
inline Vector as_ints(Floats x) { return _mm512_castps_si512(x); }
inline Floats to_floats(Vector x) { return _mm512_cvtepi32_ps(x); }
inline Vector to_ints(Floats x) { return _mm512_cvtps_epi32(x); }  // half to even
inline Vector add_ints(Vector a, Vector b) { return _mm512_add_epi32(a, b); }
inline Vector sub_ints(Vector a, Vector b) { return _mm512_sub_epi32(a, b); }

inline Vector low_bytes(Vector a, Vector b) { return _mm512_unpacklo_epi8(a, b); }
inline Vector high_bytes(Vector a, Vector b) { return _mm512_unpackhi_epi8(a, b); }
inline Vector low_words(Vector a, Vector b) { return _mm512_unpacklo_epi16(a, b); }
inline Vector high_words(Vector a, Vector b) { return _mm512_unpackhi_epi16(a, b); }
inline Vector low_ints(Vector a, Vector b) { return _mm512_unpacklo_epi32(a, b); }
inline Vector high_ints(Vector a, Vector b) { return _mm512_unpackhi_epi32(a, b); }
inline Vector low_longs(Vector a, Vector b) { return _mm512_unpacklo_epi64(a, b); }
inline Vector high_longs(Vector a, Vector b) { return _mm512_unpackhi_epi64(a, b); }
inline Vector shuffle_bytes(Vector x, Vector in_lane) { return _mm512_shuffle_epi8(x, in_lane); }
inline Vector permute_ints(Vector x, Vector index) { return _mm512_permutexvar_epi32(index, x); }

// The 128-bit lanes of a vector, from and to other addresses; `lanes` of them, `bytes` of each.
inline Vector gather_lanes(const uint8_t* const from[LANES]) {
  const auto one = [&](int k) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[k]));
  };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(one(0)), one(1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(one(2)), one(3), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
template <int LANE_>
inline void scatter_lane(uint8_t* to, Vector x, int64_t bytes) {
  const __m128i part = _mm512_extracti32x4_epi32(x, LANE_);
  if (bytes >= 16)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), part);
  else
    _mm_mask_storeu_epi8(to, __mmask16((1u << bytes) - 1), part);
}
inline void scatter_lanes(uint8_t* to, int64_t step, Vector x, int64_t lanes, int64_t bytes) {
  scatter_lane<0>(to, x, bytes);
  if (lanes > 1) scatter_lane<1>(to + step, x, bytes);
  if (lanes > 2) scatter_lane<2>(to + 2 * step, x, bytes);
  if (lanes > 3) scatter_lane<3>(to + 3 * step, x, bytes);
}
inline Vector add_words(Vector a, Vector b) { return _mm512_adds_epi16(a, b); }  // saturates
inline Vector pack_ints(Vector a, Vector b) { return _mm512_packs_epi32(a, b); }
inline Vector pack_words(Vector a, Vector b) { return _mm512_packus_epi16(a, b); }

// The bytes of a and b in turn: a0 b0 a1 b1 ...
struct Pair {
  Vector v[2];
};
inline Pair zip(Vector a, Vector b) {
  const Vector low = low_bytes(a, b), high = high_bytes(a, b);
  const Vector first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
               then = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  return {
      {_mm512_permutex2var_epi64(low, first, high), _mm512_permutex2var_epi64(low, then, high)}};
}

constexpr int32_t LESS = 0;
inline Vector ones() { return bytes_of(1); }  // weights that add taps
inline Vector dot(Vector sum, Vector taps, Vector weights) {
  return _mm512_dpbusd_epi32(sum, taps, weights);
}

}  // namespace
}  // namespace fxq

#include "interleave.h"
#include "widen.h"
