// 256 bits with AVX2: products of 16 bits, as those of bytes would saturate.
#pragma once
#include "target_avx2.h"
#include "vectors_256.h"

namespace fxq {
namespace {

constexpr int32_t GROUP = 2, LESS = 0;
inline Sums interleave(const Vector x[GROUP]) {
  const Vector low_a = low_bytes(x[0], zeros()), low_b = low_bytes(x[1], zeros());
  const Vector high_a = high_bytes(x[0], zeros()), high_b = high_bytes(x[1], zeros());
  return {{low_words(low_a, low_b), high_words(low_a, low_b), low_words(high_a, high_b),
           high_words(high_a, high_b)}};
}
inline Vector ones() { return words_of(1); }  // weights that add taps
inline Vector dot(Vector sum, Vector taps, Vector weights) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(taps, weights));
}

}  // namespace
}  // namespace fxq

#include "widen.h"
