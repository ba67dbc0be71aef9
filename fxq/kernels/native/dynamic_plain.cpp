// RANGE and RESCALE: what a linear layer that measures its input does around its sums.
#include <algorithm>

#include "families.h"
#include "measured.h"
#include "weights.h"
#include "work.h"

namespace fxq {
namespace {

// A chunk is one pair: the extremes of its share of the images.
void range(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  float pair[2] = {0.0f, 0.0f};
  for (int64_t i = first_image(s, o, chunk); i < first_image(s, o, chunk + 1); ++i)
    for (int32_t y = 0; y < s.in.h; ++y)
      for (int32_t x = 0; x < s.in.w; ++x)
        for (int32_t c = 0; c < s.in.c; ++c) {
          float v;
          std::memcpy(&v, pixel(s.in, o.in + i * s.in.image, y, x) + c * s.in.channel, sizeof v);
          if (!std::isfinite(v)) continue;
          pair[0] = std::min(pair[0], v), pair[1] = std::max(pair[1], v);
        }
  std::memcpy(o.out + 8 * int64_t{chunk}, pair, sizeof pair);
}

void rescale(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Measured m = measured(s, o.other);
  const Layer& layer = s.weights->layer;
  const bool relu = s.code.low == s.code.zero_out;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x)
      for (int32_t c = 0; c < s.out.c; ++c) {
        int32_t sum;
        std::memcpy(&sum, pixel(s.in, image.in, y, x) + 4 * int64_t{c}, sizeof sum);
        sum = int32_t(uint32_t(sum) - uint32_t(m.zero) * uint32_t(weight_sums(s)[c]));
        const float multiplier = std::min(m.scale * layer.multiplier[c], FLT_MAX);
        float v = float(sum) * multiplier;
        v = v + (layer.addend ? layer.addend[c] : 0.0f);
        v = relu && !(v > 0.0f) ? 0.0f : v;
        std::memcpy(pixel(s.out, image.out, y, x) + 4 * int64_t{c}, &v, sizeof v);
      }
  });
}

}  // namespace

void cut_rescale(Step& s, int32_t images, double nanoseconds_a_number) {
  cut(s, images, s.out.h, nanoseconds_a_number * s.out.w * s.out.c);
  const Layer& layer = s.weights->layer;
  const int64_t size = int64_t{layer.inputs} * layer.kh * layer.kw;
  for (int64_t o = 0; o < layer.outputs; ++o) {
    int64_t sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += layer.weight[o * size + i];
    s.numbers.push_back(int32_t(sum));
  }
}

bool prepare_range_plain(Step& s, int32_t) {
  s.run = range;
  s.chunks = s.out.c / 2;
  return true;
}

bool prepare_rescale_plain(Step& s, int32_t images) {
  s.run = rescale;
  cut_rescale(s, images, 2);
  return true;
}

}  // namespace fxq
