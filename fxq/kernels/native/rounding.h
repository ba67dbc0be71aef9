// The one way from float32 to eight bits.
#pragma once
#include <cmath>

#include "step.h"

namespace fxq {
namespace {

// clamp(rint(v) + zero_out, low, high), half to even. The clamp comes first, so that no conversion
// overflows (its ends are integers: the same result); NaN becomes `high`.
inline uint8_t requantize(float v, const Instruction& code) {
  const float low = float(code.low - code.zero_out), high = float(code.high - code.zero_out);
  v = v < high ? v : high;
  v = v > low ? v : low;
  return uint8_t(int32_t(lrintf(v)) + code.zero_out);
}

inline uint8_t finish(float v, const Step& s) {
  const uint8_t q = requantize(v, s.code);
  return s.table ? s.table[q] : q;
}

}  // namespace
}  // namespace fxq
