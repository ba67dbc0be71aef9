// DEPTHWISE: one input channel for each output channel. Padding lies in the input's border.
#include "families.h"
#include "rounding.h"
#include "weights.h"
#include "work.h"

namespace fxq {
namespace {

int32_t sum_of(const Step& s, const uint8_t* in, int32_t c) {
  const int8_t* w = s.weights->layer.weight + int64_t(c) * s.code.kh * s.code.kw;
  uint32_t sum = uint32_t(s.weights->bias.data()[c]);  // unsigned: wraps as vectors do
  for (int32_t y = 0; y < s.code.kh; ++y)
    for (int32_t x = 0; x < s.code.kw; ++x)
      sum += uint32_t(pixel(s.in, in, y * s.code.dh, x * s.code.dw)[c] * w[y * s.code.kw + x]);
  return int32_t(sum);
}

void depthwise(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const bool residual = s.code.flags & RESIDUAL;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) {
      const uint8_t* in =
          pixel(s.in, image.in, y * s.code.sh - s.code.ph, x * s.code.sw - s.code.pw);
      const uint8_t* other = residual ? pixel(s.other, image.other, y, x) : nullptr;
      uint8_t* out = pixel(s.out, image.out, y, x);
      for (int32_t c = 0; c < s.out.c; ++c) {
        float v = float(sum_of(s, in, c)) * s.weights->layer.multiplier[c];
        if (other) v += float(other[c] - s.code.zero_other) * s.code.m1;
        out[c] = finish(v, s);
      }
    }
  });
}

}  // namespace

bool prepare_depthwise_plain(Step& s, int32_t images) {
  s.run = depthwise;
  cut(s, images, s.out.h, 1.0 * s.out.w * s.out.c * s.code.kh * s.code.kw);
  return true;
}

}  // namespace fxq
