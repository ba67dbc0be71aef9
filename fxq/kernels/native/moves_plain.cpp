// SHUFFLE, NEAREST and FLATTEN: bytes change their places, and nothing else.
#include <cstring>

#include "families.h"
#include "work.h"

namespace fxq {
namespace {

// As torch.channel_shuffle: channel (g, j) of [groups][C / groups] becomes channel (j, g).
void shuffle(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const int32_t groups = s.code.groups, size = s.out.c / groups;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) {
      const uint8_t* in = pixel(s.in, image.in, y, x);
      uint8_t* out = pixel(s.out, image.out, y, x);
      for (int32_t g = 0; g < groups; ++g)
        for (int32_t j = 0; j < size; ++j) out[j * groups + g] = in[g * size + j];
    }
  });
}

// As torch.nn.functional.interpolate(mode="nearest") computes the source, in float32.
int32_t source(int32_t i, int32_t from, int32_t to) {
  const float scale = float(from) / float(to);
  return least(int32_t(float(i) * scale), from - 1);
}

void nearest(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    const int32_t from = source(y, s.in.h, s.out.h);
    for (int32_t x = 0; x < s.out.w; ++x)
      std::memcpy(pixel(s.out, image.out, y, x),
                  pixel(s.in, image.in, from, source(x, s.in.w, s.out.w)), s.out.c);
  });
}

// Units are runs of 16 channels: their results are one piece of the output.
void flatten(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const int32_t size = s.in.h * s.in.w;
  for_units(s, o, chunk, [&](const Operands& image, int32_t unit) {
    const int32_t end = least(16 * unit + 16, s.in.c);
    for (int32_t i = 0; i < size; ++i) {
      const uint8_t* in = pixel(s.in, image.in, i / s.in.w, i % s.in.w);
      for (int32_t c = 16 * unit; c < end; ++c) image.out[int64_t(c) * size + i] = in[c];
    }
  });
}

}  // namespace

bool prepare_shuffle_plain(Step& s, int32_t images) {
  s.run = shuffle;
  cut(s, images, s.out.h, 0.5 * s.out.w * s.out.c);
  return true;
}

bool prepare_nearest_plain(Step& s, int32_t images) {
  s.run = nearest;
  cut(s, images, s.out.h, s.out.w * (3 + 0.03 * s.out.c));
  return true;
}

bool prepare_flatten_plain(Step& s, int32_t images) {
  s.run = flatten;
  cut(s, images, ceil_div(s.in.c, 16), 8.0 * s.in.h * s.in.w);
  return true;
}

}  // namespace fxq
