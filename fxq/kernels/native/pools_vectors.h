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
    for (int j = 0; j < GROUP; ++j) pixels[j] = load(i + j < count ? from + (i + j) * step : NOTHING);
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
inline Vector mean(const Step& s, const Sums& sum, int32_t inside, int32_t n, const Range& range) {
  const Vector zero = ints_of(-inside * s.code.zero_in);
  const Floats count = floats_of(float(n)), m = floats_of(s.code.m0);
  Quad v;
  for (int k = 0; k < 4; ++k) v.v[k] = mul(div(to_floats(add_ints(sum.v[k], zero)), count), m);
  return narrow(v, range);
}

inline void average(const Step& s, const Operands& image, int32_t oy, int32_t ox, int32_t begin,
                    int32_t end, Lookup look_up) {
  const Window y = window_y(s, oy), x = window_x(s, ox);
  const int32_t inside = (y.end - y.begin) * (x.end - x.begin);
  uint8_t* out = pixel(s.out, image.out, oy, ox);
  for (int32_t c = begin; c < end; c += WIDTH)
    store(out + c, mean(s, window_sums(s.in, image.in + c, y, x), inside, divisor(s, y, x), range_of(s.code)),
          end - c);
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
    for (int k = 0; k < 4; ++k) store(sums + k * WIDTH / 4, sum.v[k]);
  }
}

// Where widened byte i of a line lies, in the order of unpack.
inline int32_t place(int32_t i) {
  const int32_t byte = i % WIDTH;
  return i - byte + byte / 4 % 4 * (WIDTH / 4) + byte / 16 * 4 + byte % 4;
}

// Sums of a period to those of each channel, both in the order of unpack.
inline void fold(const int32_t* sums, int32_t period, int32_t channels, int32_t* folded) {
  for (int32_t i = 0, c = 0; i < period; ++i, c = c + 1 == channels ? 0 : c + 1) folded[place(c)] += sums[place(i)];
}

// numbers: units, units a chunk, period
void average_line(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const Lookup look_up = best_lookup();
  const int32_t n = s.in.h * s.in.w, period = s.numbers.data()[2];
  auto* sums = reinterpret_cast<int32_t*>(scratch);
  int32_t* folded = sums + period;
  for_units(s, o, chunk, [&](const Operands& image, int32_t) {
    line_sums(image.in, int64_t(n) * s.in.c, period, sums);
    std::memset(folded, 0, 4 * ceil_div(s.in.c, WIDTH) * WIDTH);
    fold(sums, period, s.in.c, folded);
    for (int32_t c = 0; c < s.in.c; c += WIDTH) {
      Sums sum;
      for (int k = 0; k < 4; ++k) sum.v[k] = load(folded + c + k * WIDTH / 4);
      store(image.out + c, mean(s, sum, n, n, range_of(s.code)), s.in.c - c);
    }
    if (s.table) look_up(s.table, image.out, image.out, s.in.c);
  });
}

bool prepare_max_pool(Step& s, int32_t images) {
  s.run = max_pool_rows;
  cut(s, images, s.out.h, 0.03 * s.out.w * s.out.c * s.code.kh * s.code.kw);
  return true;
}

bool prepare_average_pool(Step& s, int32_t images) {
  const double work = 0.03 * s.code.kh * s.code.kw;
  const bool one = s.out.h == 1 && s.out.w == 1;
  const bool all = one && s.code.kh == s.in.h && s.code.kw == s.in.w && !s.code.ph && !s.code.pw;
  int32_t period = s.in.c;
  while (period % WIDTH && period <= 4096) period *= 2;
  const bool line = all && dense(s.in) && s.in.row == s.in.w * s.in.pixel && s.in.c % WIDTH &&
                    s.in.c < 4 * WIDTH && period <= 4096;
  s.run = line ? average_line : one ? average_panels : average_rows;
  if (line) cut(s, images, 1, work * s.out.c), add_number(s, period);
  else if (one) cut(s, images, ceil_div(s.out.c, WIDTH), work * WIDTH);
  else cut(s, images, s.out.h, s.out.w * (work * s.out.c + 10));
  return true;
}

}  // namespace
}  // namespace fxq
