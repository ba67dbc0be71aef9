// RANGE and RESCALE over vectors of either width: see dynamic_plain.cpp for what they compute.
#pragma once

namespace fxq {
namespace {

constexpr int32_t FLOATS = WIDTH / 4;  // of a vector

// A number that is not finite is NaN here, which min and max pass over: x - x is 0 or NaN.
inline void widen_range(Floats x, Floats& low, Floats& high) {
  x = add(sub(x, x), x);
  low = min(x, low), high = max(x, high);
}

void range_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  Floats low = floats_of(0), high = floats_of(0);
  for (int64_t i = first_image(s, o, chunk); i < first_image(s, o, chunk + 1); ++i)
    for (int32_t y = 0; y < s.in.h; ++y)
      for (int32_t x = 0; x < s.in.w; ++x) {
        const uint8_t* in = pixel(s.in, o.in + i * s.in.image, y, x);
        int32_t c = 0;
        for (; c + FLOATS <= s.in.c; c += FLOATS) widen_range(load_floats(in + 4 * c), low, high);
        if (c < s.in.c) widen_range(load_floats(in + 4 * c, s.in.c - c), low, high);
      }
  float lows[FLOATS], highs[FLOATS], pair[2] = {0.0f, 0.0f};
  store_floats(lows, low), store_floats(highs, high);
  for (int32_t i = 0; i < FLOATS; ++i) {
    pair[0] = lows[i] < pair[0] ? lows[i] : pair[0];
    pair[1] = highs[i] > pair[1] ? highs[i] : pair[1];
  }
  std::memcpy(o.out + 8 * int64_t{chunk}, pair, sizeof pair);
}

// What each output's sum is less, is multiplied with, and what is added.
struct Terms {
  int32_t* less;
  float *multiplier, *addend;
};

inline Terms terms_of(const Step& s, const Measured& m, uint8_t* scratch) {
  const Layer& layer = s.weights->layer;
  const int32_t n = s.out.c, room = ceil_div(n, FLOATS) * FLOATS;
  auto* less = reinterpret_cast<int32_t*>(scratch);
  auto* multiplier = reinterpret_cast<float*>(less + room);
  const Terms t{less, multiplier, multiplier + room};
  const int32_t* sums = weight_sums(s);
  for (int32_t c = 0; c < n; ++c) t.less[c] = int32_t(uint32_t(m.zero) * uint32_t(sums[c]));
  for (int32_t c = 0; c < n; ++c) {
    const float product = m.scale * layer.multiplier[c];
    t.multiplier[c] = product < FLT_MAX ? product : FLT_MAX;
  }
  for (int32_t c = 0; c < n; ++c) t.addend[c] = layer.addend ? layer.addend[c] : 0.0f;
  return t;
}

void rescale_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const Terms t = terms_of(s, measured(s, o.other), scratch);
  const bool relu = s.code.low == s.code.zero_out;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) {
      const uint8_t* in = pixel(s.in, image.in, y, x);
      uint8_t* out = pixel(s.out, image.out, y, x);
      for (int32_t c = 0; c < s.out.c; c += FLOATS) {
        const Vector sum = as_ints(load_floats(in + 4 * c, s.out.c - c));
        Floats v = mul(to_floats(sub_ints(sum, load(t.less + c))), load_floats(t.multiplier + c));
        v = add(v, load_floats(t.addend + c));
        store_floats(out + 4 * c, relu ? max(v, floats_of(0)) : v, s.out.c - c);
      }
    }
  });
}

bool prepare_range(Step& s) {
  if (s.in.channel != 4) return false;
  s.run = range_lines;
  s.chunks = s.out.c / 2;
  return true;
}

bool prepare_rescale(Step& s, int32_t images) {
  if (12 * (int64_t{s.out.c} + WIDTH) > SCRATCH) return false;
  s.run = rescale_lines;
  cut_rescale(s, images, 0.1);
  return true;
}

}  // namespace
}  // namespace fxq
