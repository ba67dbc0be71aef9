// The few vector operations that the kernels of bytes need, in 512 bits. vectors_avx2.h has the same
// names in 256 bits: kernels are written once (lines.h, strips.h, ...) and compiled for both.
//
// WIDTH bytes widen to four vectors of 32 bits in the order of unpack: within each 128-bit lane, bytes
// 0-3, 4-7, 8-11 and 12-15. narrow() packs in the inverse order, so that nothing needs a permute.
#pragma once
#include "target_avx512.h"

namespace fxq {
namespace {

constexpr int32_t WIDTH = 64;
using Vector = __m512i;
using Floats = __m512;
struct Quad { Floats v[4]; };
struct Sums { Vector v[4]; };

inline Vector load(const void* p) { return _mm512_loadu_si512(p); }
inline Floats load_floats(const void* p) { return _mm512_loadu_ps(p); }
inline void store(void* p, Vector x) { _mm512_storeu_si512(p, x); }
inline void store_floats(void* p, Floats x) { _mm512_storeu_ps(p, x); }
inline void store(uint8_t* p, Vector x, int64_t bytes) {  // at most WIDTH
  if (bytes >= WIDTH) return store(p, x);
  _mm512_mask_storeu_epi8(p, (__mmask64(1) << bytes) - 1, x);
}
inline Vector zeros() { return _mm512_setzero_si512(); }
inline Vector bytes_of(int32_t x) { return _mm512_set1_epi8(char(x)); }
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
inline Floats to_floats(Vector x) { return _mm512_cvtepi32_ps(x); }
inline Vector to_ints(Floats x) { return _mm512_cvtps_epi32(x); }  // half to even
inline Vector add_ints(Vector a, Vector b) { return _mm512_add_epi32(a, b); }

inline Vector low_bytes(Vector a, Vector b) { return _mm512_unpacklo_epi8(a, b); }
inline Vector high_bytes(Vector a, Vector b) { return _mm512_unpackhi_epi8(a, b); }
inline Vector low_words(Vector a, Vector b) { return _mm512_unpacklo_epi16(a, b); }
inline Vector high_words(Vector a, Vector b) { return _mm512_unpackhi_epi16(a, b); }
inline Vector add_words(Vector a, Vector b) { return _mm512_adds_epi16(a, b); }  // saturates
inline Vector pack_ints(Vector a, Vector b) { return _mm512_packs_epi32(a, b); }
inline Vector pack_words(Vector a, Vector b) { return _mm512_packus_epi16(a, b); }

// Depthwise: GROUP taps of one channel lie in the 32 bits of a lane. See depthwise_vectors.h.
constexpr int32_t GROUP = 4;
inline Sums interleave(const uint8_t* const rows[GROUP], int64_t at) {
  const Vector a = load(rows[0] + at), b = load(rows[1] + at), c = load(rows[2] + at), d = load(rows[3] + at);
  const Vector low_ab = low_bytes(a, b), low_cd = low_bytes(c, d);
  const Vector high_ab = high_bytes(a, b), high_cd = high_bytes(c, d);
  return {{low_words(low_ab, low_cd), high_words(low_ab, low_cd),
           low_words(high_ab, high_cd), high_words(high_ab, high_cd)}};
}
inline Vector dot(Vector sum, Vector taps, Vector weights) {
  return _mm512_dpbusd_epi32(sum, taps, weights);
}

}  // namespace
}  // namespace fxq

#include "widen.h"
