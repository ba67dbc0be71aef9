// SHUFFLE of two groups over vectors of either width: the halves of a pixel in turn.
#pragma once

namespace fxq {
namespace {

inline void zip_halves(const uint8_t* in, int64_t half, uint8_t* out) {
  for (int64_t j = 0; j < half; j += WIDTH) {
    const Pair x = zip(load(in + j), load(in + half + j));
    const int64_t left = 2 * (half - j);
    store(out + 2 * j, x.v[0], left);
    if (left > WIDTH) store(out + 2 * j + WIDTH, x.v[1], left - WIDTH);
  }
}

void shuffle_halves(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x)
      zip_halves(pixel(s.in, image.in, y, x), s.out.c / 2, pixel(s.out, image.out, y, x));
  });
}

bool prepare_shuffle(Step& s, int32_t images) {
  if (s.code.groups != 2) return false;
  s.run = shuffle_halves;
  cut(s, images, s.out.h, s.out.w * (3 + 0.05 * s.out.c));
  return true;
}

}  // namespace
}  // namespace fxq
