// Depthwise with products of bytes: four taps of one channel lie in the 32 bits of a lane. See
// depthwise_vectors.h.
#pragma once

namespace fxq {
namespace {

constexpr int32_t GROUP = 4;
inline Sums interleave(const Vector x[GROUP]) {
  const Vector low_ab = low_bytes(x[0], x[1]), low_cd = low_bytes(x[2], x[3]);
  const Vector high_ab = high_bytes(x[0], x[1]), high_cd = high_bytes(x[2], x[3]);
  return {{low_words(low_ab, low_cd), high_words(low_ab, low_cd), low_words(high_ab, high_cd),
           high_words(high_ab, high_cd)}};
}

}  // namespace
}  // namespace fxq
