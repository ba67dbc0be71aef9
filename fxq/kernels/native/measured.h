// Scale and zero point of a range that RANGE has measured: see native.h.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstring>

#include "step.h"

namespace fxq {

// Chunks and numbers of RESCALE (dynamic_plain.cpp).
void cut_rescale(Step& step, int32_t images, double nanoseconds_a_number);

namespace {

struct Measured {
  float scale, inverse;
  int32_t zero;
};

inline Measured measured(const Step& s, const uint8_t* pairs) {
  float range[2] = {0.0f, 0.0f};
  for (int32_t i = 0; i < s.other.c; i += 2) {
    float pair[2];
    std::memcpy(pair, pairs + 4 * int64_t(i), sizeof pair);
    range[0] = pair[0] < range[0] ? pair[0] : range[0];
    range[1] = pair[1] > range[1] ? pair[1] : range[1];
  }
  const double low = s.code.low, high = s.code.high, reach = double(range[1]) - double(range[0]);
  float scale = float(reach / (high - low));
  scale = reach == 0.0 ? FLT_EPSILON : scale > FLT_MIN ? scale : FLT_MIN;
  const double zero = low - std::nearbyint(double(range[0]) / double(scale));
  return {scale, float(1.0 / double(scale)), int32_t(zero > high ? high : zero > low ? zero : low)};
}

// RANGE: the images of a chunk. RESCALE: the sums of each output's weights.
inline int64_t first_image(const Step& s, const Operands& o, int32_t chunk) {
  return int64_t{chunk} * o.images / s.chunks;
}
inline const int32_t* weight_sums(const Step& s) { return s.numbers.data() + 2; }

// An ENTER's numbers: its own, or those of the range.
inline Instruction rounding_of(const Step& s, const Operands& o) {
  Instruction code = s.code;
  if (!(code.flags & MEASURED)) return code;
  const Measured m = measured(s, o.other);
  code.m0 = m.inverse, code.zero_out = m.zero;
  return code;
}

}  // namespace
}  // namespace fxq
