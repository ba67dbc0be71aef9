// From sums to stored results in AVX-512. Included behind a file's `#pragma GCC target`; everything
// is in an unnamed namespace, since a shared symbol could run these instructions on older CPUs.
// FXQ_VBMI: whether tables are looked up in registers here (gcc does not define __AVX512VBMI__ for
// a pragma); where they are not, the caller does it on what was stored.
#pragma once

#include "dense_tiles.h"

namespace fxq {
namespace {

enum Kind { QUANTIZE, ADD_OTHER, FLOATS, FLOATS_ADD_OTHER, RAW };  // RAW: the sums themselves
template <Kind K>
constexpr bool adds = K == ADD_OTHER || K == FLOATS_ADD_OTHER;

struct Epilogue {
  __m512 m1;
  __m512i zero_other, zero_out, low, high;
  const uint8_t* table;
  Kind kind;
  bool relu, shifts, clamps;  // whether zero_out, low and high do anything for bytes
};

inline Epilogue epilogue_of(const Step& step) {
  const Instruction& code = step.code;
  const int32_t kind = code.flags & SUMS_OUT ? RAW
                       : (code.flags & FLOAT_OUT ? FLOATS : QUANTIZE) + (code.flags & RESIDUAL ? 1 : 0);
  return {_mm512_set1_ps(code.m1), _mm512_set1_epi32(code.zero_other),
          _mm512_set1_epi16(int16_t(code.zero_out)), _mm512_set1_epi8(int8_t(code.low)),
          _mm512_set1_epi8(int8_t(code.high)), step.table, Kind(kind), code.low == code.zero_out,
          code.zero_out != 0, code.low > 0 || code.high < 255};
}

template <Kind K>
inline __m512 scaled(const Epilogue& e, __m512i sum, const float* multiplier, const uint8_t* other) {
  __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(multiplier));
  if (!adds<K>) return v;
  __m512i q = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(other)));
  return _mm512_add_ps(v, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, e.zero_other)), e.m1));
}

// 64 numbers to bytes, in order. Packs work within 128-bit lanes; one permute mends it.
inline __m512i bytes_of(const Epilogue& e, const __m512i* q) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i low = _mm512_packs_epi32(q[0], q[1]), high = _mm512_packs_epi32(q[2], q[3]);
  if (e.shifts) low = _mm512_adds_epi16(low, e.zero_out), high = _mm512_adds_epi16(high, e.zero_out);
  __m512i bytes = _mm512_packus_epi16(low, high);
  if (e.clamps) bytes = _mm512_min_epu8(_mm512_max_epu8(bytes, e.low), e.high);
  return _mm512_permutexvar_epi32(order, bytes);
}

#ifdef FXQ_VBMI
inline __m512i look_up(const uint8_t* table, __m512i q) {
  const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(table), q,
                                               _mm512_loadu_si512(table + 64));
  const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(table + 128), q,
                                                _mm512_loadu_si512(table + 192));
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(q), low, high);
}
#endif

template <int V>
inline void store_bytes(const Row* rows, int count, __m512i bytes) {
  if (V >= 3) _mm512_mask_storeu_epi8(rows[0].out, rows[0].mask, bytes);
  if (V == 2) {
    _mm256_mask_storeu_epi8(rows[0].out, __mmask32(rows[0].mask), _mm512_castsi512_si256(bytes));
    if (count > 1)
      _mm256_mask_storeu_epi8(rows[1].out, __mmask32(rows[1].mask),
                              _mm512_extracti64x4_epi64(bytes, 1));
  }
  if (V == 1) {
    _mm_mask_storeu_epi8(rows[0].out, __mmask16(rows[0].mask), _mm512_castsi512_si128(bytes));
    if (count > 1)
      _mm_mask_storeu_epi8(rows[1].out, __mmask16(rows[1].mask), _mm512_extracti32x4_epi32(bytes, 1));
    if (count > 2)
      _mm_mask_storeu_epi8(rows[2].out, __mmask16(rows[2].mask), _mm512_extracti32x4_epi32(bytes, 2));
    if (count > 3)
      _mm_mask_storeu_epi8(rows[3].out, __mmask16(rows[3].mask), _mm512_extracti32x4_epi32(bytes, 3));
  }
}

template <int V, Kind K>
inline void store_floats(const Epilogue& e, const __m512i* sums, const float* multiplier,
                         const Row* rows, int count) {
  for (int i = 0; i < count; i++)
    for (int v = 0; v < V; v++) {
      const uint8_t* other = adds<K> ? rows[i].other + v * 16 : nullptr;
      __m512 x = scaled<K>(e, sums[i * V + v], multiplier + v * 16, other);
      if (e.relu) x = _mm512_max_ps(x, _mm512_setzero_ps());
      _mm512_mask_storeu_ps(rows[i].out + v * 64, __mmask16(rows[i].mask >> v * 16), x);
    }
}

template <int V>
inline void store_sums(const __m512i* sums, const Row* rows, int count) {
  for (int i = 0; i < count; i++)
    for (int v = 0; v < V; v++)
      _mm512_mask_storeu_epi32(rows[i].out + v * 64, __mmask16(rows[i].mask >> v * 16), sums[i * V + v]);
}

// Rows that share a register of bytes: 64 / (16 V).
template <int V>
constexpr int together = V == 1 ? 4 : V == 2 ? 2 : 1;

// `sums`: V for each of `count` rows, count <= together<V>.
template <int V, Kind K>
inline void finish(const Epilogue& e, const __m512i* sums, const float* multiplier,
                   const Row* rows, int count) {
  if (K == RAW) return store_sums<V>(sums, rows, count);
  if (K == FLOATS || K == FLOATS_ADD_OTHER)
    return store_floats<V, K>(e, sums, multiplier, rows, count);
  __m512i q[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const int i = j / V, v = j % V;
    const uint8_t* other = adds<K> && i < count ? rows[i].other + v * 16 : nullptr;
    q[j] = i < count ? _mm512_cvtps_epi32(scaled<K>(e, sums[j], multiplier + v * 16, other))
                     : _mm512_setzero_si512();
  }
  __m512i bytes = bytes_of(e, q);
#ifdef FXQ_VBMI
  if (e.table) bytes = look_up(e.table, bytes);
#endif
  store_bytes<V>(rows, count, bytes);
}

}  // namespace
}  // namespace fxq
