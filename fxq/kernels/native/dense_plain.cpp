// The definition of dense, grouped and transposed convolutions; every other kernel gives its bits.
#include <algorithm>
#include <cmath>

#include "dense.h"
#include "weights.h"

namespace fxq {
namespace {

struct Pixel {
  const uint8_t* in;  // of the image
  const uint8_t* other;
  uint8_t* out;
  int32_t y, x;
};

// Sums wrap at 32 bits on every instruction set, so unsigned numbers hold them here.
int32_t convolved(const Step& step, const Pixel& pixel, int32_t output) {
  const Instruction& code = step.code;
  const Layer& layer = step.weights->layer;
  const int64_t channel = int64_t(output / (layer.outputs / layer.groups)) * layer.inputs;
  const int8_t* weight = layer.weight + int64_t(output) * layer.inputs * layer.kh * layer.kw;
  uint32_t sum = uint32_t(step.weights->bias[output]);
  for (int32_t c = 0; c < layer.inputs; c++)
    for (int32_t ky = 0; ky < layer.kh; ky++)
      for (int32_t kx = 0; kx < layer.kw; kx++) {
        int64_t y = int64_t(pixel.y) * code.sh - code.ph + ky * code.dh;
        int64_t x = int64_t(pixel.x) * code.sw - code.pw + kx * code.dw;
        const uint8_t* in = pixel.in + y * step.in.row + x * step.in.pixel;
        sum += uint32_t(in[(channel + c) * step.in.channel] * *weight++);
      }
  return int32_t(sum);
}

// The input's row, or column, that meets tap k at output position `out`; -1 where none does.
int32_t source(int32_t out, int32_t pad, int32_t k, int32_t dilation, int32_t stride, int32_t size) {
  int32_t at = out + pad - k * dilation;
  return at < 0 || at % stride || at / stride >= size ? -1 : at / stride;
}

// No borders are read: only real inputs are added, so zero points are subtracted one by one.
int32_t transposed(const Step& step, const Pixel& pixel, int32_t output) {
  const Instruction& code = step.code;
  const Layer& layer = step.weights->layer;
  const int32_t outputs = layer.outputs / layer.groups, taps = layer.kh * layer.kw;
  const int64_t channel = int64_t(output / outputs) * layer.inputs;
  uint32_t sum = layer.bias ? uint32_t(layer.bias[output]) : 0;
  for (int32_t ky = 0; ky < layer.kh; ky++)
    for (int32_t kx = 0; kx < layer.kw; kx++) {
      int32_t y = source(pixel.y, code.ph, ky, code.dh, code.sh, step.in.h);
      int32_t x = source(pixel.x, code.pw, kx, code.dw, code.sw, step.in.w);
      if (y < 0 || x < 0) continue;
      const uint8_t* in = pixel.in + y * step.in.row + x * step.in.pixel;
      for (int32_t c = 0; c < layer.inputs; c++) {
        const int64_t at = ((channel + c) * outputs + output % outputs) * taps + ky * layer.kw + kx;
        sum += uint32_t((in[(channel + c) * step.in.channel] - layer.zero_in) * layer.weight[at]);
      }
    }
  return int32_t(sum);
}

void finish(const Step& step, const Pixel& pixel, int32_t output, int32_t sum) {
  const Instruction& code = step.code;
  uint8_t* out = pixel.out + pixel.y * step.out.row + pixel.x * step.out.pixel +
                 output * step.out.channel;
  if (code.flags & SUMS_OUT) {
    *reinterpret_cast<int32_t*>(out) = sum;
    return;
  }
  float v = float(sum) * step.weights->layer.multiplier[output];
  if (code.flags & RESIDUAL) {
    const uint8_t* other = pixel.other + pixel.y * step.other.row + pixel.x * step.other.pixel;
    float scaled = float(other[output * step.other.channel] - code.zero_other) * code.m1;
    v = v + scaled;
  }
  if (code.flags & FLOAT_OUT) {
    const bool relu = code.low == code.zero_out;
    *reinterpret_cast<float*>(out) = relu && !(v > 0.0f) ? 0.0f : v;
    return;
  }
  v = std::min(std::max(std::nearbyint(v), -float(1 << 30)), float(1 << 30));
  int32_t q = std::min(std::max(int32_t(v) + code.zero_out, code.low), code.high);
  *out = step.table ? step.table[q] : uint8_t(q);
}

// A chunk is an output row of an image.
template <int32_t (*SUM)(const Step&, const Pixel&, int32_t)>
void run(const Step& step, const Operands& operands, int32_t chunk, uint8_t*) {
  const int64_t image = chunk / step.out.h;
  Pixel pixel{operands.in + image * step.in.image, operands.other, operands.out, 0, 0};
  pixel.out += image * step.out.image;
  if (step.code.flags & RESIDUAL) pixel.other += image * step.other.image;
  pixel.y = chunk % step.out.h;
  for (pixel.x = 0; pixel.x < step.out.w; pixel.x++)
    for (int32_t output = 0; output < step.weights->layer.outputs; output++)
      finish(step, pixel, output, SUM(step, pixel, output));
}

}  // namespace

bool prepare_conv_plain(Step& step, int32_t images) {
  step.run = run<convolved>;
  step.chunks = images * step.out.h;
  return true;
}

bool prepare_transposed_plain(Step& step, int32_t images) {
  step.run = run<transposed>;
  step.chunks = images * step.out.h;
  return true;
}

}  // namespace fxq
