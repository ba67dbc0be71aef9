// Dense convolutions with AVX-VNNI (the 256-bit form without AVX-512).
//
// The register block of a 6 x 2 tile: a vector holds the sums of 8 outputs.
//
//               w0   w1     12 sums + 2 weights + 1 broadcast = 15 of 16 registers,
//   pixel 0 ->  s00  s01    8 loads for 12 vpdpbusd
//      ...
//   pixel 5 ->  s50  s51
#include "dense.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,avxvnni")
#endif
#include <immintrin.h>

#include "dense_256.h"

namespace fxq {
namespace {

struct Dot {
  using Weight = __m256i;
  using Pixel = __m256i;
  static constexpr int WEIGHT_BYTES = 32;
  static Weight load(const uint8_t* bytes) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes));
  }
  static Pixel broadcast(int32_t bytes) { return _mm256_set1_epi32(bytes); }
  static __m256i add(__m256i sums, Pixel a, Weight w) { return _mm256_dpbusd_avx_epi32(sums, a, w); }
};

struct Kernel {
  using Epilogue = fxq::Epilogue;
  static constexpr int32_t LANES = 8, MOST_ROWS[] = {0, 8, 6};
  static constexpr TileOf<Epilogue> TILES[3][8] = {
      {},
      {tile<Dot, 1, 1>, tile<Dot, 2, 1>, tile<Dot, 3, 1>, tile<Dot, 4, 1>, tile<Dot, 5, 1>,
       tile<Dot, 6, 1>, tile<Dot, 7, 1>, tile<Dot, 8, 1>},
      {tile<Dot, 1, 2>, tile<Dot, 2, 2>, tile<Dot, 3, 2>, tile<Dot, 4, 2>, tile<Dot, 5, 2>,
       tile<Dot, 6, 2>},
  };
  static Epilogue epilogue(const Step& step) { return epilogue_of(step); }
};

}  // namespace

bool prepare_conv_avxvnni(Step& step, int32_t images) {
  if (!pack_dense(step, with_sums({AVX_VNNI, 8, 2, 4, 1}))) return false;
  split_dense(step, images * step.out.h * step.out.w, images, 150);
  step.run = run_tiles<Kernel>;
  return true;
}

bool prepare_transposed_avxvnni(Step& step, int32_t images) {
  return prepare_transposed(step, images, prepare_conv_avxvnni);
}

}  // namespace fxq

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
