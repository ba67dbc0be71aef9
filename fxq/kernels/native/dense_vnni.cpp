// Dense convolutions with AVX-512 VNNI.
//
// The register block of a 6 x 4 tile: a vector holds the sums of 16 outputs.
//
//               weights (4 loads for each 4 bytes of k)
//               w0   w1   w2   w3
//   pixel 0 ->  s00  s01  s02  s03     a pixel's 4 bytes are broadcast from memory to all lanes:
//   pixel 1 ->  s10  s11  s12  s13     24 sums + 4 weights + 1 broadcast = 29 of 32 registers,
//      ...                             10 loads for 24 vpdpbusd
//   pixel 5 ->  s50  s51  s52  s53
//
// Panels of one to three vectors have 8 pixels.
#include "dense.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif
#include <immintrin.h>

#include "dense_avx512.h"

namespace fxq {
namespace {

// One line of stored results at a time; byte permutes are not on every processor with VNNI.
using LookUp = void (*)(const uint8_t* table, const Row* rows, int count);

void look_up(const uint8_t* table, const Row* rows, int count) {
  for (int i = 0; i < count; i++)
    for (uint64_t o = 0; o < 64 && rows[i].mask >> o; o++) rows[i].out[o] = table[rows[i].out[o]];
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")))
void look_up_vbmi(const uint8_t* table, const Row* rows, int count) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  for (int i = 0; i < count; i++) {
    const __m512i q = _mm512_maskz_loadu_epi8(rows[i].mask, rows[i].out);
    const __m512i low = _mm512_permutex2var_epi8(t0, q, t1), high = _mm512_permutex2var_epi8(t2, q, t3);
    _mm512_mask_storeu_epi8(rows[i].out, rows[i].mask,
                            _mm512_mask_blend_epi8(_mm512_movepi8_mask(q), low, high));
  }
}

struct VnniEpilogue : Epilogue {
  LookUp look_up;
};

template <int R, int V, Kind K>
inline void finish_rows(const Work<VnniEpilogue>& work, __m512i (&s)[R][V], const Row* rows) {
  constexpr int step = together<V>;
#pragma GCC unroll 8
  for (int r = 0; r < R; r += step)
    finish<V, K>(work.epilogue, s[r], work.multiplier, rows + r, R - r < step ? R - r : step);
}

template <int R, int V>
void tile(const Work<VnniEpilogue>& work, const uint8_t* const* in, const Row* rows) {
  __m512i s[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) s[r][v] = _mm512_loadu_si512(work.bias + v * 16);
  const uint8_t* w = work.weights;
  for (int32_t run = 0; run < work.run_count; run++) {
    const int64_t end = work.runs[run] + int64_t(work.run_bytes);
    for (int64_t k = work.runs[run]; k < end; k += 4, w += V * 64) {
      __m512i b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) b[v] = _mm512_load_si512(w + v * 64);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        const __m512i a = _mm512_set1_epi32(dword(in[r] + k));
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) s[r][v] = _mm512_dpbusd_epi32(s[r][v], a, b[v]);
      }
    }
  }
  switch (work.epilogue.kind) {
    case QUANTIZE: finish_rows<R, V, QUANTIZE>(work, s, rows); break;
    case ADD_OTHER: finish_rows<R, V, ADD_OTHER>(work, s, rows); break;
    case FLOATS: finish_rows<R, V, FLOATS>(work, s, rows); break;
    case FLOATS_ADD_OTHER: finish_rows<R, V, FLOATS_ADD_OTHER>(work, s, rows); break;
    case RAW: finish_rows<R, V, RAW>(work, s, rows); break;
  }
  if (work.epilogue.table) work.epilogue.look_up(work.epilogue.table, rows, R);
}

struct Kernel {
  using Epilogue = VnniEpilogue;
  static constexpr int32_t LANES = 16, MOST_ROWS[] = {0, 8, 8, 8, 6};
  static constexpr TileOf<Epilogue> TILES[5][8] = {
      {},
      {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>, tile<7, 1>, tile<8, 1>},
      {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>, tile<7, 2>, tile<8, 2>},
      {tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>, tile<5, 3>, tile<6, 3>, tile<7, 3>, tile<8, 3>},
      {tile<1, 4>, tile<2, 4>, tile<3, 4>, tile<4, 4>, tile<5, 4>, tile<6, 4>},
  };
  static Epilogue epilogue(const Step& step) {
    return {epilogue_of(step), has_vbmi() ? look_up_vbmi : look_up};
  }
};

}  // namespace

bool prepare_conv_vnni(Step& step, int32_t images) {
  if (!pack_dense(step, with_sums({AVX512_VNNI, 16, 4, 4, 1}))) return false;
  split_dense(step, images * step.out.h * step.out.w, images, 300);
  step.run = run_tiles<Kernel>;
  return true;
}

bool prepare_transposed_vnni(Step& step, int32_t images) {
  return prepare_transposed(step, images, prepare_conv_vnni);
}

}  // namespace fxq

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
