// 256 bits with AVX-VNNI.
#pragma once
#include "target_avxvnni.h"
#include "vectors_256.h"

namespace fxq {
namespace {

constexpr int32_t LESS = 0;
inline Vector ones() { return bytes_of(1); }  // weights that add taps
inline Vector dot(Vector sum, Vector taps, Vector weights) {
  return _mm256_dpbusd_avx_epi32(sum, taps, weights);
}

}  // namespace
}  // namespace fxq

#include "interleave.h"
#include "widen.h"
