// Dense convolutions with AVX2, exact: bytes are widened to 16 bits, so that no product saturates
// (vpmaddubsw would). Of 4 bytes, the even ones and the odd ones are multiplied in two steps:
//
//   a0 a1 a2 a3  & 00ff00ff  ->  a0 . a2     * weights packed as 16-bit pairs (w0, w2)
//                >> 8        ->  a1 . a3     * (w1, w3)
//
// The register block of a 4 x 2 tile: 8 sums of 8 outputs, 4 weights, 2 halves of a broadcast, 2
// products: 16 of 16 registers.
#include "dense.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#include <immintrin.h>

#include "dense_256.h"

namespace fxq {
namespace {

struct Dot {
  struct Weight {
    __m256i even, odd;
  };
  using Pixel = Weight;
  static constexpr int WEIGHT_BYTES = 64;
  static Weight load(const uint8_t* bytes) {
    return {_mm256_load_si256(reinterpret_cast<const __m256i*>(bytes)),
            _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes + 32))};
  }
  static Pixel broadcast(int32_t bytes) {
    const __m256i all = _mm256_set1_epi32(bytes);
    return {_mm256_and_si256(all, _mm256_set1_epi16(255)), _mm256_srli_epi16(all, 8)};
  }
  static __m256i add(__m256i sums, Pixel a, Weight w) {
    return _mm256_add_epi32(_mm256_add_epi32(sums, _mm256_madd_epi16(a.even, w.even)),
                            _mm256_madd_epi16(a.odd, w.odd));
  }
};

struct Kernel {
  using Epilogue = fxq::Epilogue;
  static constexpr int32_t LANES = 8, MOST_ROWS[] = {0, 6, 4};
  static constexpr TileOf<Epilogue> TILES[3][8] = {
      {},
      {tile<Dot, 1, 1>, tile<Dot, 2, 1>, tile<Dot, 3, 1>, tile<Dot, 4, 1>, tile<Dot, 5, 1>,
       tile<Dot, 6, 1>},
      {tile<Dot, 1, 2>, tile<Dot, 2, 2>, tile<Dot, 3, 2>, tile<Dot, 4, 2>},
  };
  static Epilogue epilogue(const Step& step) { return epilogue_of(step); }
};

}  // namespace

bool prepare_conv_avx2(Step& step, int32_t images) {
  if (!pack_dense(step, with_sums({AVX2, 8, 2, 4, 2}))) return false;
  split_dense(step, images * step.out.h * step.out.w, images, 60);
  step.run = run_tiles<Kernel>;
  return true;
}

bool prepare_transposed_avx2(Step& step, int32_t images) {
  return prepare_transposed(step, images, prepare_conv_avx2);
}

}  // namespace fxq

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
