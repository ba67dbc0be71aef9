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
// result whose pixels do not lie side by side is written to lines first. Neither is needed where the
// channels are whole blocks; many of these are computed in panels.
#pragma once
#include "depthwise_strips.h"

namespace fxq {
namespace {

struct Epilogue {
  Vector zero, low, high;
};

// q = clamp(rint(sum * multiplier) + zero); no product is too large for the conversion (fits()).
inline Vector finish(const Vector sum[4], const uint8_t* multiplier, const Epilogue& e) {
  Sums q;
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k)
    q.v[k] = to_ints(mul(to_floats(sum[k]), load_floats(multiplier + k * WIDTH)));
  const Vector low = add_words(pack_ints(q.v[0], q.v[1]), e.zero);
  const Vector high = add_words(pack_ints(q.v[2], q.v[3]), e.zero);
  return min_bytes(max_bytes(pack_words(low, high), e.low), e.high);
}

// Where the results of a block go, and those of the next blocks with the same weights.
struct Target {
  uint8_t* at[4];       // for each row
  int64_t step;         // bytes to the next block's
  int64_t left, fewer;  // bytes that exist there; how many fewer at the next block
};

// BLOCKS blocks of ROWS rows, `period` bytes apart. The packed weights are those of PACKED rows.
// (Without the pragmas gcc keeps the sums in memory.)
template <int ROWS, int PACKED, int BLOCKS>
inline void compute(const int32_t* offset, int32_t taps, const uint8_t* weights,
                    const uint8_t* strip, int64_t period, const Epilogue& e, const Target& out,
                    int64_t i) {
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
      for (int b = 0; b < BLOCKS; ++b) x[b] = load(strip + offset[k] + (i + b) * period);
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
    for (int r = 0; r < ROWS; ++r)
      store(out.at[r] + (i + b) * out.step, finish(sum[r][b], weights + 4 * WIDTH, e),
            out.left - (i + b) * out.fewer);
}

// The pixels of a strip for one part of a row group.
struct Part {
  int32_t y, rows;          // output rows
  int32_t x, pixels;        // output columns
  int32_t first, channels;  // of the panel
  bool blocks;              // pixels are whole blocks: results go where they belong
};

template <int ROWS, int PACKED>
inline void compute_blocks(const Step& s, const Shape& g, const Part& p, const uint8_t* strip,
                           const Target& line) {
  constexpr int BLOCKS = SUMS / (4 * ROWS);
  const Epilogue e{words_of(s.code.zero_out), bytes_of(s.code.low), bytes_of(s.code.high)};
  const int32_t taps = g.groups * s.code.kw, bytes = 8 * WIDTH + taps * PACKED * 4 * WIDTH;
  const int64_t end = p.blocks ? p.channels : int64_t(p.pixels) * g.lanes;
  const uint8_t* weights = static_cast<const uint8_t*>(s.packed) + int64_t(p.first) / WIDTH * bytes;
  for (int32_t at = 0; at < g.period && at < end; at += WIDTH, weights += bytes) {
    Target out = line;
    for (int r = 0; r < ROWS; ++r) out.at[r] += at;
    out.left = end - at;
    const int64_t count = p.blocks ? p.pixels : (end - at + g.period - 1) / g.period;
    int64_t i = 0;
    for (; i + BLOCKS <= count; i += BLOCKS)
      compute<ROWS, PACKED, BLOCKS>(offsets_of(s), taps, weights, strip + at, g.period, e, out, i);
    for (; i < count; ++i)
      compute<ROWS, PACKED, 1>(offsets_of(s), taps, weights, strip + at, g.period, e, out, i);
  }
}

template <int PACKED>
inline void compute_rows(const Step& s, const Shape& g, const Part& p, const uint8_t* strip,
                         const Target& out) {
  if (p.rows == 1) return compute_blocks<1, PACKED>(s, g, p, strip, out);
  if constexpr (PACKED > 1)
    if (p.rows == 2) return compute_blocks<2, PACKED>(s, g, p, strip, out);
  if constexpr (PACKED > 2) {
    if (p.rows == 3) return compute_blocks<3, PACKED>(s, g, p, strip, out);
    compute_blocks<4, PACKED>(s, g, p, strip, out);
  }
}

inline void fill_strip(const Step& s, const Shape& g, const Part& p, const Rows& from,
                       int32_t pixels, uint8_t* strip) {
  const int64_t stride = s.in.pixel * s.code.sw;
  if (stride == g.lanes) return fill_line(from, int64_t(pixels) * g.lanes, strip, g.plane);
  if (p.blocks) return fill_blocks(from, stride, pixels, p.channels, g.lanes, strip, g.plane);
  fill_pixels(from, stride, pixels, g.lanes, strip, g.plane);
}

inline void fill_strips(const Step& s, const Shape& g, const Part& p, const uint8_t* image,
                        uint8_t* scratch) {
  const Instruction& k = s.code;
  const int32_t last_slot = (p.rows - 1) * k.sh + k.kh - 1;  // further ones meet weights of 0
  for (int32_t i = 0; i < g.groups; ++i)
    for (int32_t phase = 0; phase < g.phases; ++phase) {
      const int32_t extra = extra_pixels(k, phase);
      if (extra < 0) continue;
      Rows from;
      for (int j = 0; j < GROUP; ++j)
        from.at[j] = pixel(s.in, image + p.first,
                           p.y * k.sh - k.ph + least(i * GROUP + j, last_slot) * k.dh,
                           p.x * k.sw - k.pw + phase);
      fill_strip(s, g, p, from, p.pixels + extra, scratch + (i * g.phases + phase) * 4ll * g.plane);
    }
}

// The table, and the way out of lines whose pixels lie elsewhere.
inline void move_line(const Step& s, const Shape& g, const Part& p, Lookup look_up, uint8_t* line,
                      uint8_t* out) {
  if (line != out) {
    if (s.table) look_up(s.table, line, line, int64_t(p.pixels) * g.lanes);
    for (int32_t x = 0; x < p.pixels; ++x, line += g.lanes, out += s.out.pixel)
      for (int32_t c = 0; c < s.out.c; c += WIDTH) store(out + c, load(line + c), s.out.c - c);
    return;
  }
  if (!s.table) return;
  if (s.out.pixel == p.channels) return look_up(s.table, out, out, int64_t(p.pixels) * p.channels);
  for (int32_t x = 0; x < p.pixels; ++x, out += s.out.pixel) look_up(s.table, out, out, p.channels);
}

template <int PACKED>
inline void compute_part(const Step& s, const Operands& image, const Part& p, Lookup look_up,
                         uint8_t* scratch) {
  const Shape& g = shape_of(s);
  fill_strips(s, g, p, image.in, scratch);
  uint8_t* lines = scratch + 4ll * g.groups * g.phases * g.plane;
  const bool direct = p.blocks || (dense(s.out) && s.out.c == g.lanes);
  Target out{};
  out.step = p.blocks ? s.out.pixel : g.period;
  out.fewer = p.blocks ? 0 : g.period;
  for (int r = 0; r < p.rows; ++r)
    out.at[r] = direct ? pixel(s.out, image.out, p.y + r, p.x) + p.first : lines + r * g.line;
  compute_rows<PACKED>(s, g, p, scratch, out);
  for (int r = 0; r < p.rows; ++r)
    move_line(s, g, p, look_up, out.at[r], pixel(s.out, image.out, p.y + r, p.x) + p.first);
}

// Units: the row groups of the first panel, then those of the next.
template <int PACKED>
void depthwise_rows(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const Lookup look_up = best_lookup();
  const Shape& g = shape_of(s);
  const int32_t groups = g.units / g.panels;
  for_units(s, o, chunk, [&](const Operands& image, int32_t unit) {
    const int32_t y = unit % groups * PACKED, first = unit / groups * g.lanes;
    Part p{};
    p.y = y, p.rows = least(PACKED, s.out.h - y);
    p.first = first, p.channels = least(g.lanes, s.out.c - first);
    p.blocks = g.lanes % WIDTH == 0;
    for (; p.x < s.out.w; p.x += g.width) {
      p.pixels = least(g.width, s.out.w - p.x);
      compute_part<PACKED>(s, image, p, look_up, scratch);
    }
  });
}

bool prepare_depthwise(Step& s, int32_t images) {
  if (!shape_depthwise(s, images, {WIDTH, GROUP, SUMS / 4, LESS})) return false;
  const int32_t rows = shape_of(s).rows;
  s.run = rows == 2 ? depthwise_rows<2> : depthwise_rows<1>;
  if constexpr (SUMS >= 16)
    if (rows == 4) s.run = depthwise_rows<4>;
  return true;
}

}  // namespace
}  // namespace fxq
