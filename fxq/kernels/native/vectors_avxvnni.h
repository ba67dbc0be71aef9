// 256 bits with AVX-VNNI.
#pragma once
#include "target_avxvnni.h"
#include "vectors_256.h"

namespace fxq {
namespace {

constexpr int32_t GROUP = 4, LESS = 0;
inline Sums interleave(const Vector x[GROUP]) {
  const Vector low_ab = low_bytes(x[0], x[1]), low_cd = low_bytes(x[2], x[3]);
  const Vector high_ab = high_bytes(x[0], x[1]), high_cd = high_bytes(x[2], x[3]);
  return {{low_words(low_ab, low_cd), high_words(low_ab, low_cd),
           low_words(high_ab, high_cd), high_words(high_ab, high_cd)}};
}
inline Vector ones() { return bytes_of(1); }  // weights that add taps
inline Vector dot(Vector sum, Vector taps, Vector weights) {
  return _mm256_dpbusd_avx_epi32(sum, taps, weights);
}

}  // namespace
}  // namespace fxq

#include "widen.h"
