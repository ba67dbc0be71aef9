// DEPTHWISE over vectors of either width.
//
// A row of pixels is one line of bytes, whatever the channels are, so that no lane is wasted. GROUP
// input rows are interleaved into a strip: each of its lanes of 32 bits holds GROUP vertical taps of a
// channel. A strip serves several output rows, and column kx of the kernel is the strip kx pixels on.
//
//   input row y    a0 a1 a2 ..     strip:  lane 0: a0 b0 c0 d0   lane 1: a1 b1 c1 d1 ..
//             y+1  b0 b1 b2 ..     output row 0 += lane * (w0 w1 w2  0)
//             y+2  c0 c1 c2 ..     output row 1 += lane * ( 0 w0 w1 w2)
//             y+3  d0 d1 d2 ..
//
// Register block: ROWS output rows x BLOCKS blocks (one period apart: the same weights) x 4 vectors.
// The order of unpack is kept in four planes: vector v of a block holds bytes 4v to 4v+3 of each 16.
// A shift by a multiple of 4 bytes is then another plane, or 16 bytes further on. Pixels that are not
// side by side (stride, slices of a concatenation) are merged into blocks when the strip is filled; a
// result whose pixels do not lie side by side is written to lines first.
#pragma once

namespace fxq {
namespace {

struct Rows {
  const uint8_t* at[GROUP];
};

inline void put(const Vector rows[GROUP], uint8_t* strip, int32_t plane) {
  const Sums x = interleave(rows);
  for (int k = 0; k < 4; ++k) store(strip + k * plane, x.v[k]);
}

// Fills the four planes of a strip from pixels that lie side by side ...
inline void fill_line(const Rows& rows, int64_t bytes, uint8_t* strip, int32_t plane) {
  for (int64_t i = 0; i < bytes; i += WIDTH) {
    Vector x[GROUP];
    for (int r = 0; r < GROUP; ++r) x[r] = load(rows.at[r] + i);
    put(x, strip + i, plane);
  }
}

// ... or `stride` bytes apart: a block is merged from the pixels that it meets.
inline void fill_pixels(const Rows& rows, int64_t stride, int32_t pixels, int32_t lanes, uint8_t* strip,
                        int32_t plane) {
  int64_t at = 0;      // of the pixel that the block begins in
  int32_t within = 0;  // its bytes that were taken
  const int64_t bytes = int64_t(pixels) * lanes, end = pixels * stride;
  for (int64_t i = 0; i < bytes; i += WIDTH) {
    Vector x[GROUP];
    for (int r = 0; r < GROUP; ++r) x[r] = load(rows.at[r] + at + within);
    int32_t filled = lanes - within;
    for (; filled < WIDTH && at + stride < end; filled += lanes) {
      at += stride;
      for (int r = 0; r < GROUP; ++r) x[r] = merge(x[r], filled, rows.at[r] + at - filled);
    }
    within = lanes - (filled - WIDTH);
    if (within == lanes) at += stride, within = 0;
    put(x, strip + i, plane);
  }
}

struct Epilogue {
  Vector zero, low, high;
};

// q = clamp(rint(sum * multiplier) + zero); no product is too large for the conversion (fits()).
inline Vector finish(const Vector sum[4], const uint8_t* multiplier, const Epilogue& e) {
  Sums q;
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) q.v[k] = to_ints(mul(to_floats(sum[k]), load_floats(multiplier + k * WIDTH)));
  const Vector low = add_words(pack_ints(q.v[0], q.v[1]), e.zero);
  const Vector high = add_words(pack_ints(q.v[2], q.v[3]), e.zero);
  return min_bytes(max_bytes(pack_words(low, high), e.low), e.high);
}

struct Lines {
  uint8_t* at[4];
};

// BLOCKS blocks of ROWS rows at byte `at` of the line; the last one may end before its WIDTH bytes.
// The packed weights are those of PACKED rows. (Without the pragmas gcc keeps the sums in memory.)
template <int ROWS, int PACKED, int BLOCKS>
inline void compute(const Shape& g, const int32_t* offset, int32_t taps, const uint8_t* weights,
                    const uint8_t* strip, const Epilogue& e, const Lines& out, int64_t at, int64_t end) {
  Vector sum[ROWS][BLOCKS][4];
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int b = 0; b < BLOCKS; ++b)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sum[r][b][k] = load(weights + k * WIDTH);
  const uint8_t* w = weights + 8 * WIDTH;
  for (int32_t t = 0; t < taps; ++t, offset += 4, w += PACKED * 4 * WIDTH)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      Vector x[BLOCKS];
#pragma GCC unroll 4
      for (int b = 0; b < BLOCKS; ++b) x[b] = load(strip + offset[k] + at + int64_t(b) * g.period);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) {
        const Vector tap = load(w + (4 * r + k) * WIDTH);
#pragma GCC unroll 4
        for (int b = 0; b < BLOCKS; ++b) sum[r][b][k] = dot(sum[r][b][k], x[b], tap);
      }
    }
#pragma GCC unroll 4
  for (int b = 0; b < BLOCKS; ++b)
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) {
      const int64_t to = at + int64_t(b) * g.period;
      store(out.at[r] + to, finish(sum[r][b], weights + 4 * WIDTH, e), end - to);
    }
}

template <int ROWS, int PACKED>
inline void compute_line(const Step& s, const Shape& g, const uint8_t* strip, const Epilogue& e,
                         const Lines& out, int64_t end) {
  constexpr int BLOCKS = SUMS / (4 * ROWS);
  const int32_t taps = g.groups * s.code.kw, bytes = 8 * WIDTH + taps * PACKED * 4 * WIDTH;
  const auto* weights = static_cast<const uint8_t*>(s.packed);
  for (int32_t block = 0; block < g.period; block += WIDTH, weights += bytes) {
    int64_t at = block;
    for (; at + int64_t(BLOCKS - 1) * g.period < end; at += int64_t(BLOCKS) * g.period)
      compute<ROWS, PACKED, BLOCKS>(g, offsets_of(s), taps, weights, strip, e, out, at, end);
    for (; at < end; at += g.period)
      compute<ROWS, PACKED, 1>(g, offsets_of(s), taps, weights, strip, e, out, at, end);
  }
}

template <int PACKED>
inline void compute_rows(const Step& s, const Shape& g, int32_t rows, const uint8_t* strip,
                         const Lines& out, int64_t end) {
  const Epilogue e{words_of(s.code.zero_out), bytes_of(s.code.low), bytes_of(s.code.high)};
  if (rows == 1) return compute_line<1, PACKED>(s, g, strip, e, out, end);
  if constexpr (PACKED > 1)
    if (rows == 2) return compute_line<2, PACKED>(s, g, strip, e, out, end);
  if constexpr (PACKED > 2) {
    if (rows == 3) return compute_line<3, PACKED>(s, g, strip, e, out, end);
    compute_line<4, PACKED>(s, g, strip, e, out, end);
  }
}

inline void fill_strips(const Step& s, const Shape& g, const Operands& image, int32_t y, int32_t rows,
                        int32_t x, int32_t pixels, uint8_t* scratch) {
  const Instruction& k = s.code;
  const int32_t last_slot = (rows - 1) * k.sh + k.kh - 1;  // further ones meet weights of 0
  const int64_t stride = s.in.pixel * k.sw;
  for (int32_t i = 0; i < g.groups; ++i)
    for (int32_t p = 0; p < g.phases; ++p) {
      const int32_t extra = extra_pixels(k, p), n = pixels + extra;
      if (extra < 0) continue;
      Rows from;
      for (int j = 0; j < GROUP; ++j)
        from.at[j] = pixel(s.in, image.in, y * k.sh - k.ph + least(i * GROUP + j, last_slot) * k.dh,
                           x * k.sw - k.pw + p);
      uint8_t* strip = scratch + (i * g.phases + p) * 4ll * g.plane;
      if (stride == g.lanes) fill_line(from, int64_t(n) * g.lanes, strip, g.plane);
      else fill_pixels(from, stride, n, g.lanes, strip, g.plane);
    }
}

inline void copy_pixels(const Step& s, const uint8_t* line, int32_t lanes, int32_t pixels, uint8_t* out) {
  for (int32_t x = 0; x < pixels; ++x, line += lanes, out += s.out.pixel)
    for (int32_t c = 0; c < s.out.c; c += WIDTH) store(out + c, load(line + c), s.out.c - c);
}

// Output pixels x to x + pixels of `rows` rows from y on.
template <int PACKED>
inline void compute_part(const Step& s, const Operands& image, int32_t y, int32_t rows, int32_t x,
                         int32_t pixels, Lookup look_up, uint8_t* scratch) {
  const Shape& g = shape_of(s);
  fill_strips(s, g, image, y, rows, x, pixels, scratch);
  uint8_t* lines = scratch + 4ll * g.groups * g.phases * g.plane;
  const bool direct = dense(s.out) && s.out.c == g.lanes;
  const int64_t end = int64_t(pixels) * g.lanes;
  Lines out;
  for (int r = 0; r < rows; ++r)
    out.at[r] = direct ? pixel(s.out, image.out, y + r, x) : lines + r * g.line;
  compute_rows<PACKED>(s, g, rows, scratch, out, end);
  for (int r = 0; r < rows; ++r) {
    if (s.table) look_up(s.table, out.at[r], out.at[r], end);
    if (!direct) copy_pixels(s, out.at[r], g.lanes, pixels, pixel(s.out, image.out, y + r, x));
  }
}

template <int PACKED>
void depthwise_rows(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const Lookup look_up = best_lookup();
  const int32_t width = shape_of(s).width;
  for_units(s, o, chunk, [&](const Operands& image, int32_t unit) {
    const int32_t y = unit * PACKED, rows = least(PACKED, s.out.h - y);
    for (int32_t x = 0; x < s.out.w; x += width)
      compute_part<PACKED>(s, image, y, rows, x, least(width, s.out.w - x), look_up, scratch);
  });
}

bool prepare_depthwise(Step& s, int32_t images) {
  if (!shape_depthwise(s, images, WIDTH, GROUP)) return false;
  const int32_t rows = shape_of(s).rows;
  s.run = rows == 2 ? depthwise_rows<2> : depthwise_rows<1>;
  if constexpr (SUMS >= 16)
    if (rows == 4) s.run = depthwise_rows<4>;
  return true;
}

}  // namespace
}  // namespace fxq
