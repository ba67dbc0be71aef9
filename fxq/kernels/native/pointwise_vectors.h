// ADD, MULTIPLY and TABLE over vectors of either width: see pointwise_plain.cpp for what they compute.
#pragma once

namespace fxq {
namespace {

// out[i] = narrow(body(a, b)) for a line; the line's result goes through the table while it is in L1.
template <class Body>
inline void binary_line(const Step& s, Lookup look_up, const uint8_t* a, const uint8_t* b,
                        uint8_t* out, int64_t n, Body body) {
  const Range range = range_of(s.code);
  for (int64_t i = 0; i < n; i += WIDTH) {
    const Quad v = widen(load(a + i)), w = widen(load(b + i));
    Quad result;
    for (int k = 0; k < 4; ++k) result.v[k] = body(v.v[k], w.v[k]);
    store(out + i, narrow(result, range), n - i);
  }
  if (s.table) look_up(s.table, out, out, n);
}

template <class Body>
inline void binary(const Step& s, const Operands& o, int32_t chunk, Body body) {
  const Lookup look_up = best_lookup();
  const Runs runs = runs_of(s, dense(s.in) && dense(s.other) && dense(s.out));
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for_runs(s, image, y, runs, [&](const uint8_t* a, const uint8_t* b, uint8_t* out) {
      binary_line(s, look_up, a, b, out, runs.bytes, body);
    });
  });
}

void add_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Floats za = floats_of(BIAS + s.code.zero_in), zb = floats_of(BIAS + s.code.zero_other);
  const Floats ma = floats_of(s.code.m0), mb = floats_of(s.code.m1);
  binary(s, o, chunk,
         [=](Floats a, Floats b) { return add(mul(sub(a, za), ma), mul(sub(b, zb), mb)); });
}

void multiply_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Floats za = floats_of(BIAS + s.code.zero_in), zb = floats_of(BIAS + s.code.zero_other);
  const Floats m = floats_of(s.code.m0);
  binary(s, o, chunk, [=](Floats a, Floats b) { return mul(mul(sub(a, za), sub(b, zb)), m); });
}

// One pixel scales the channels of all others. Its channels are widened once, as factor f and
// -(BIAS + zero_in) * f, so that one exact fused step gives (a - zero_in) * f; they are repeated until
// they fill whole vectors, so that a line of pixels has no tail at each pixel.
struct Scale {
  float* factor;
  float* offset;
  int32_t period;  // bytes of a line after which the factors come again
};

inline void fill_scale(const Step& s, const uint8_t* b, const Scale& scale) {
  const Floats zb = floats_of(BIAS + s.code.zero_other), za = floats_of(-(BIAS + s.code.zero_in));
  uint8_t* bytes = reinterpret_cast<uint8_t*>(scale.offset + scale.period);
  for (int32_t i = 0; i < scale.period; i += s.out.c)
    std::memcpy(bytes + i, b, least(s.out.c, scale.period - i));
  for (int32_t i = 0; i < scale.period; i += WIDTH) {
    const Quad w = widen(load(bytes + i));
    for (int k = 0; k < 4; ++k) {
      const Floats f = sub(w.v[k], zb);
      store_floats(scale.factor + i + k * WIDTH / 4, f);
      store_floats(scale.offset + i + k * WIDTH / 4, mul(f, za));
    }
  }
}

inline void scale_line(const Step& s, const Scale& scale, const uint8_t* a, uint8_t* out,
                       int64_t n) {
  const Range range = range_of(s.code);
  const Floats m = floats_of(s.code.m0);
  int32_t at = 0;
  for (int64_t i = 0; i < n; i += WIDTH) {
    const Quad v = widen(load(a + i));
    Quad result;
    for (int k = 0; k < 4; ++k) {
      const int32_t j = at + k * WIDTH / 4;
      const Floats product =
          fused(v.v[k], load_floats(scale.factor + j), load_floats(scale.offset + j));
      result.v[k] = mul(product, m);
    }
    store(out + i, narrow(result, range), n - i);
    at = at + WIDTH == scale.period ? 0 : at + WIDTH;
  }
}

// numbers: units, units a chunk, period (of whole rows where it is a multiple of the channels).
void scale_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const int32_t period = s.numbers.data()[2];
  float* memory = reinterpret_cast<float*>(scratch);
  const Scale scale{memory, memory + period, period};
  const Lookup look_up = best_lookup();
  const Runs runs = runs_of(s, dense(s.in) && dense(s.out) && period % s.out.c == 0);
  const uint8_t* filled = nullptr;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    if (filled != image.other) fill_scale(s, filled = image.other, scale);
    for_runs(s, image, y, runs, [&](const uint8_t* a, const uint8_t*, uint8_t* out) {
      scale_line(s, scale, a, out, runs.bytes);
      if (s.table) look_up(s.table, out, out, runs.bytes);
    });
  });
}

void table_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Lookup look_up = best_lookup();
  const Runs runs = runs_of(s, dense(s.in) && dense(s.out));
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for_runs(s, image, y, runs, [&](const uint8_t* in, const uint8_t*, uint8_t* out) {
      if (s.table) return look_up(s.table, in, out, runs.bytes);
      for (int64_t i = 0; i < runs.bytes; i += WIDTH) store(out + i, load(in + i), runs.bytes - i);
    });
  });
}

bool prepare_add(Step& s, int32_t images) {
  s.run = add_lines;
  cut(s, images, s.out.h, 0.2 * s.out.w * s.out.c);
  return true;
}

bool prepare_multiply(Step& s, int32_t images) {
  const bool one = s.other.h == 1 && s.other.w == 1 && s.out.h * s.out.w > 1;
  s.run = one ? scale_lines : multiply_lines;
  cut(s, images, s.out.h, 0.2 * s.out.w * s.out.c);
  if (!one) return true;
  if (s.out.c > 1 << 16) return false;
  int32_t whole = s.out.c;
  while (whole % WIDTH) whole *= 2;
  const int32_t period = whole <= 8 * 1024 ? whole : ceil_div(s.out.c, WIDTH) * WIDTH;
  add_number(s, period);
  return period * 9 + WIDTH <= SCRATCH;
}

bool prepare_table(Step& s, int32_t images) {
  s.run = table_lines;
  cut(s, images, s.out.h, 0.05 * s.out.w * s.out.c);
  return true;
}

}  // namespace
}  // namespace fxq
