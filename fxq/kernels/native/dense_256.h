// Dense convolutions with vectors of 8 sums, for AVX2 and AVX-VNNI. Included behind a file's
// `#pragma GCC target`, so everything is in an unnamed namespace. DOT says how 8 outputs' products
// with a broadcast of 4 bytes are added:
//   WEIGHT_BYTES of a vector of 8 outputs, Weight load(bytes), Pixel broadcast(4 bytes),
//   __m256i add(sums, Pixel, Weight)
#pragma once

#include "dense_tiles.h"

namespace fxq {
namespace {

struct Epilogue {
  const Step* step;
  __m256 m1;
  __m256i zero_other, zero_out, low, high;
};

inline Epilogue epilogue_of(const Step& step) {
  const Instruction& code = step.code;
  return {&step, _mm256_set1_ps(code.m1), _mm256_set1_epi32(code.zero_other),
          _mm256_set1_epi16(int16_t(code.zero_out)), _mm256_set1_epi8(int8_t(code.low)),
          _mm256_set1_epi8(int8_t(code.high))};
}

inline __m256 scaled(const Work<Epilogue>& work, __m256i sum, const Row& row, int v8) {
  const Epilogue& e = work.epilogue;
  const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(work.multiplier + v8));
  if (!(e.step->code.flags & RESIDUAL)) return v;
  const __m256i q =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row.other + v8)));
  return _mm256_add_ps(v, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, e.zero_other)), e.m1));
}

template <int V>
inline void store_floats(const Work<Epilogue>& work, const __m256i* sums, const Row& row) {
  const Instruction& code = work.epilogue.step->code;
  alignas(32) float line[V * 8];
  if (code.flags & SUMS_OUT) {
    memcpy(row.out, sums, size_t(work.outputs) * 4);
    return;
  }
  for (int v = 0; v < V; v++) {
    __m256 x = scaled(work, sums[v], row, v * 8);
    if (code.low == code.zero_out) x = _mm256_max_ps(x, _mm256_setzero_ps());
    _mm256_store_ps(line + v * 8, x);
  }
  memcpy(row.out, line, size_t(work.outputs) * 4);
}

template <int V>
inline void store_bytes(const Work<Epilogue>& work, const __m256i* sums, const Row& row) {
  const Epilogue& e = work.epilogue;
  __m256i q[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int v = 0; v < V; v++) q[v] = _mm256_cvtps_epi32(scaled(work, sums[v], row, v * 8));
  // Packs work within 128-bit lanes; one permute mends it.
  __m256i words = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), e.zero_out);
  __m256i bytes = _mm256_packus_epi16(words, words);
  bytes = _mm256_min_epu8(_mm256_max_epu8(bytes, e.low), e.high);
  bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5));
  const __m128i line = _mm256_castsi256_si128(bytes);
  const uint8_t* table = e.step->table;
  if (work.outputs == 16 && !table)
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(row.out), line);
  alignas(16) uint8_t numbers[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(numbers), line);
  if (table)
    for (int i = 0; i < work.outputs; i++) numbers[i] = table[numbers[i]];
  if (work.outputs == 8)
    memcpy(row.out, numbers, 8);
  else
    memcpy(row.out, numbers, size_t(work.outputs));
}

template <class DOT, int R, int V>
void tile(const Work<Epilogue>& work, const uint8_t* const* in, const Row* rows) {
  __m256i s[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++)
      s[r][v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(work.bias + v * 8));
  const uint8_t* w = work.weights;
  for (int32_t run = 0; run < work.run_count; run++) {
    const int64_t end = work.runs[run] + int64_t(work.run_bytes);
    for (int64_t k = work.runs[run]; k < end; k += 4, w += V * DOT::WEIGHT_BYTES) {
      typename DOT::Weight b[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) b[v] = DOT::load(w + v * DOT::WEIGHT_BYTES);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        const typename DOT::Pixel a = DOT::broadcast(dword(in[r] + k));
#pragma GCC unroll 2
        for (int v = 0; v < V; v++) s[r][v] = DOT::add(s[r][v], a, b[v]);
      }
    }
  }
  const bool floats = work.epilogue.step->code.flags & (FLOAT_OUT | SUMS_OUT);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
    floats ? store_floats<V>(work, s[r], rows[r]) : store_bytes<V>(work, s[r], rows[r]);
}

}  // namespace
}  // namespace fxq
