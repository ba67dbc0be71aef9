// vectors_avx512.h in 256 bits, for AVX2 and AVX-VNNI; what differs between them is in their files.
#pragma once

namespace fxq {
namespace {

constexpr int32_t WIDTH = 32, LANES = WIDTH / 16,
                  SUMS = 8;  // 16 registers hold 8 sums and operands
using Vector = __m256i;
using Floats = __m256;
struct Quad {
  Floats v[4];
};
struct Sums {
  Vector v[4];
};

inline Vector load(const void* p) { return _mm256_loadu_si256(static_cast<const Vector*>(p)); }
inline Floats load_floats(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
inline void store(void* p, Vector x) { _mm256_storeu_si256(static_cast<Vector*>(p), x); }
inline void store_floats(void* p, Floats x) { _mm256_storeu_ps(static_cast<float*>(p), x); }
inline void store(uint8_t* p, Vector x, int64_t bytes) {  // at most WIDTH
  if (bytes >= WIDTH) return store(p, x);
  alignas(32) uint8_t copy[WIDTH];
  store(copy, x);
  std::memcpy(p, copy, bytes);
}

// Lanes of 32 bits that are all ones: those before `count`, or from it on.
alignas(32) const int32_t STEPS[24] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
inline Vector before(int64_t count) { return load(STEPS + 16 - (count < 8 ? count : 8)); }
inline Vector from(int32_t count) { return load(STEPS + 8 - count); }

// x with its bytes from `first` on (a multiple of 4) taken from p + first; the others are not read.
inline Vector merge(Vector x, int32_t first, const uint8_t* p) {
  const Vector mask = from(first / 4);
  return _mm256_blendv_epi8(x, _mm256_maskload_epi32(reinterpret_cast<const int*>(p), mask), mask);
}
// The first `count` numbers, at most a vector's: the tensors of a caller have no SLACK behind them.
inline Floats load_floats(const void* p, int64_t count) {
  return _mm256_maskload_ps(static_cast<const float*>(p), before(count));
}
inline void store_floats(void* p, Floats x, int64_t count) {
  _mm256_maskstore_ps(static_cast<float*>(p), before(count), x);
}
inline Vector zeros() { return _mm256_setzero_si256(); }
inline Vector bytes_of(int32_t x) { return _mm256_set1_epi8(char(x)); }
inline Vector words_of(int32_t x) { return _mm256_set1_epi16(short(x)); }
inline Vector ints_of(int32_t x) { return _mm256_set1_epi32(x); }
inline Floats floats_of(float x) { return _mm256_set1_ps(x); }

inline Vector max_bytes(Vector a, Vector b) { return _mm256_max_epu8(a, b); }
inline Vector min_bytes(Vector a, Vector b) { return _mm256_min_epu8(a, b); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }  // b where a is NaN
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats fused(Floats a, Floats b, Floats c) {
  return add(mul(a, b), c);
}  // of exact products
inline Floats as_floats(Vector x) { return _mm256_castsi256_ps(x); }
inline Vector as_ints(Floats x) { return _mm256_castps_si256(x); }
inline Floats to_floats(Vector x) { return _mm256_cvtepi32_ps(x); }
inline Vector to_ints(Floats x) { return _mm256_cvtps_epi32(x); }  // half to even
inline Vector add_ints(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
inline Vector sub_ints(Vector a, Vector b) { return _mm256_sub_epi32(a, b); }

inline Vector low_bytes(Vector a, Vector b) { return _mm256_unpacklo_epi8(a, b); }
inline Vector high_bytes(Vector a, Vector b) { return _mm256_unpackhi_epi8(a, b); }
inline Vector low_words(Vector a, Vector b) { return _mm256_unpacklo_epi16(a, b); }
inline Vector high_words(Vector a, Vector b) { return _mm256_unpackhi_epi16(a, b); }
inline Vector low_ints(Vector a, Vector b) { return _mm256_unpacklo_epi32(a, b); }
inline Vector high_ints(Vector a, Vector b) { return _mm256_unpackhi_epi32(a, b); }
inline Vector low_longs(Vector a, Vector b) { return _mm256_unpacklo_epi64(a, b); }
inline Vector high_longs(Vector a, Vector b) { return _mm256_unpackhi_epi64(a, b); }
inline Vector shuffle_bytes(Vector x, Vector in_lane) { return _mm256_shuffle_epi8(x, in_lane); }
inline Vector permute_ints(Vector x, Vector index) { return _mm256_permutevar8x32_epi32(x, index); }
inline Vector add_words(Vector a, Vector b) { return _mm256_adds_epi16(a, b); }  // saturates
inline Vector pack_ints(Vector a, Vector b) { return _mm256_packs_epi32(a, b); }
inline Vector pack_words(Vector a, Vector b) { return _mm256_packus_epi16(a, b); }

// The 128-bit lanes of a vector, from and to other addresses; `lanes` of them, `bytes` of each.
inline Vector gather_lanes(const uint8_t* const from[LANES]) {
  return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(from[1]),
                             reinterpret_cast<const __m128i*>(from[0]));
}
inline void scatter_lanes(uint8_t* to, int64_t step, Vector x, int64_t lanes, int64_t bytes) {
  alignas(32) uint8_t copy[WIDTH];
  store(copy, x);
  for (int64_t l = 0; l < lanes && l < LANES; ++l)
    if (bytes >= 16)
      std::memcpy(to + l * step, copy + 16 * l, 16);
    else
      std::memcpy(to + l * step, copy + 16 * l, bytes);
}

// The bytes of a and b in turn: a0 b0 a1 b1 ...
struct Pair {
  Vector v[2];
};
inline Pair zip(Vector a, Vector b) {
  const Vector low = low_bytes(a, b), high = high_bytes(a, b);
  return {{_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)}};
}

}  // namespace
}  // namespace fxq
