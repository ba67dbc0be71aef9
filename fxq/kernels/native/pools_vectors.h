// MAX_POOL and AVERAGE_POOL over vectors of either width: see pools_plain.cpp for what they compute.
#pragma once

namespace fxq {
namespace {

void max_pool_rows(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Lookup look_up = best_lookup();
  for_units(s, o, chunk, [&](const Operands& image, int32_t oy) {
    const Window rows = window_y(s, oy);
    for (int32_t ox = 0; ox < s.out.w; ++ox) {
      const Window columns = window_x(s, ox);
      const int64_t step_x = s.code.dw * s.in.pixel, step_y = s.code.dh * s.in.row;
      const uint8_t* in = pixel(s.in, image.in, rows.begin, columns.begin);
      uint8_t* out = pixel(s.out, image.out, oy, ox);
      for (int32_t c = 0; c < s.out.c; c += WIDTH) {
        Vector q = zeros();
        const uint8_t* row = in + c;
        for (int32_t y = rows.begin; y < rows.end; y += s.code.dh, row += step_y) {
          const uint8_t* at = row;
          for (int32_t x = columns.begin; x < columns.end; x += s.code.dw, at += step_x)
            q = max_bytes(q, load(at));
        }
        store(out + c, q, s.out.c - c);
      }
      if (s.table) look_up(s.table, out, out, s.out.c);
    }
  });
}

// ---- sums: GROUP pixels are interleaved, and added by a dot product with ones

alignas(64) const uint8_t NOTHING[WIDTH] = {};

// Adds `count` times WIDTH bytes that lie `step` bytes apart.
inline void add_run(Sums& sum, const uint8_t* from, int64_t step, int32_t count) {
  for (int32_t i = 0; i < count; i += GROUP) {
    Vector pixels[GROUP];
    for (int j = 0; j < GROUP; ++j)
      pixels[j] = load(i + j < count ? from + (i + j) * step : NOTHING);
    const Sums x = interleave(pixels);
    for (int k = 0; k < 4; ++k) sum.v[k] = dot(sum.v[k], x.v[k], ones());
  }
}

inline Sums window_sums(const View& v, const uint8_t* image, Window y, Window x) {
  Sums sum{{zeros(), zeros(), zeros(), zeros()}};
  const int32_t h = y.end - y.begin, w = x.end - x.begin;
  const bool whole = v.row == w * v.pixel;
  for (int32_t i = 0; i < (whole ? 1 : h); ++i)
    add_run(sum, pixel(v, image, y.begin + i, x.begin), v.pixel, whole ? w * h : w);
  return sum;
}

// The mean of sums over n numbers, of which `inside` were added.
inline Quad mean(const Step& s, const Sums& sum, int32_t inside, int32_t n) {
  const Vector zero = ints_of(-inside * s.code.zero_in);
  const Floats count = floats_of(float(n)), m = floats_of(s.code.m0);
  Quad v;
  for (int k = 0; k < 4; ++k) v.v[k] = mul(div(to_floats(add_ints(sum.v[k], zero)), count), m);
  return v;
}

// Up to `count` of WIDTH means, as bytes or as floats.
inline void store_means(const Step& s, uint8_t* out, const Quad& v, int32_t count) {
  if (!(s.code.flags & FLOAT_OUT)) return store(out, narrow(v, range_of(s.code)), count);
  constexpr int32_t FLOATS = WIDTH / 4;
  float mixed[4][FLOATS], line[WIDTH];  // lane l of vector k holds numbers 16 l + 4 k and on
  for (int k = 0; k < 4; ++k) store_floats(mixed[k], v.v[k]);
  for (int i = 0; i < WIDTH; ++i) line[i] = mixed[i / 4 % 4][i / 16 * 4 + i % 4];
  std::memcpy(out, line, least(count, WIDTH) * sizeof(float));
}

inline void average(const Step& s, const Operands& image, int32_t oy, int32_t ox, int32_t begin,
                    int32_t end, Lookup look_up) {
  const Window y = window_y(s, oy), x = window_x(s, ox);
  const int32_t inside = (y.end - y.begin) * (x.end - x.begin);
  uint8_t* out = pixel(s.out, image.out, oy, ox);
  for (int32_t c = begin; c < end; c += WIDTH)
    store_means(s, out + c * s.out.element,
                mean(s, window_sums(s.in, image.in + c, y, x), inside, divisor(s, y, x)), end - c);
  if (s.table) look_up(s.table, out + begin, out + begin, end - begin);
}

void average_rows(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Lookup look_up = best_lookup();
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) average(s, image, y, x, 0, s.out.c, look_up);
  });
}

// To one pixel: units are panels of WIDTH channels.
void average_panels(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Lookup look_up = best_lookup();
  for_units(s, o, chunk, [&](const Operands& image, int32_t unit) {
    average(s, image, 0, 0, unit * WIDTH, least(s.out.c, (unit + 1) * WIDTH), look_up);
  });
}

// ---- to one pixel, of few channels: the image is one line, in which they come again at each period

// Lane l of vector k holds the sums of bytes 16 l + 4 k and on.
inline void store_in_order(int32_t* to, const Sums& sum) {
  for (int k = 0; k < 4; ++k)
    scatter_lanes(reinterpret_cast<uint8_t*>(to + 4 * k), 64, sum.v[k], LANES, 16);
}
inline Sums load_in_order(const int32_t* from) {
  Sums sum;
  for (int k = 0; k < 4; ++k) {
    const uint8_t* lanes[LANES];
    for (int l = 0; l < LANES; ++l)
      lanes[l] = reinterpret_cast<const uint8_t*>(from + 16 * l + 4 * k);
    sum.v[k] = gather_lanes(lanes);
  }
  return sum;
}

inline void line_sums(const uint8_t* line, int64_t bytes, int32_t period, int32_t* sums) {
  for (int32_t at = 0; at < period; at += WIDTH, sums += WIDTH) {
    Sums sum{{zeros(), zeros(), zeros(), zeros()}};
    const int64_t left = bytes - at - WIDTH;  // behind the first block
    const int32_t count = left >= 0 ? int32_t(left / period) + 1 : 0;
    add_run(sum, line + at, period, count);
    const int64_t next = at + int64_t(count) * period;
    if (next < bytes) {
      alignas(64) uint8_t tail[WIDTH] = {};
      std::memcpy(tail, line + next, bytes - next);
      add_run(sum, tail, 0, 1);
    }
    store_in_order(sums, sum);
  }
}

// numbers: units, units a chunk, period
void average_line(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const Lookup look_up = best_lookup();
  const int32_t n = s.in.h * s.in.w, period = s.numbers.data()[2];
  auto* sums = reinterpret_cast<int32_t*>(scratch);
  for_units(s, o, chunk, [&](const Operands& image, int32_t) {
    line_sums(image.in, int64_t(n) * s.in.c, period, sums);
    for (int32_t at = s.in.c; at < period; at += s.in.c)
      for (int32_t c = 0; c < s.in.c; ++c) sums[c] += sums[at + c];
    for (int32_t c = 0; c < s.in.c; c += WIDTH)
      store_means(s, image.out + c * s.out.element, mean(s, load_in_order(sums + c), n, n),
                  s.in.c - c);
    if (s.table) look_up(s.table, image.out, image.out, s.in.c);
  });
}

bool prepare_max_pool(Step& s, int32_t images) {
  s.run = max_pool_rows;
  cut(s, images, s.out.h, 0.03 * s.out.w * s.out.c * s.code.kh * s.code.kw);
  return true;
}

bool prepare_average_pool(Step& s, int32_t images) {
  if (s.out.channel != s.out.element) return false;
  const double work = 0.03 * s.code.kh * s.code.kw;
  const bool one = s.out.h == 1 && s.out.w == 1;
  const bool all = one && s.code.kh == s.in.h && s.code.kw == s.in.w && !s.code.ph && !s.code.pw;
  int32_t period = s.in.c;
  while (period % WIDTH && period <= 4096) period *= 2;
  const bool line = all && dense(s.in) && s.in.row == s.in.w * s.in.pixel && s.in.c % WIDTH &&
                    s.in.c < 4 * WIDTH && period <= 4096;
  s.run = line ? average_line : one ? average_panels : average_rows;
  if (line)
    cut(s, images, 1, work * s.out.c), add_number(s, period);
  else if (one)
    cut(s, images, ceil_div(s.out.c, WIDTH), work * WIDTH);
  else
    cut(s, images, s.out.h, s.out.w * (work * s.out.c + 10));
  return true;
}

}  // namespace
}  // namespace fxq
