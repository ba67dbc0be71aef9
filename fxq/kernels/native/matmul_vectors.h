// MATMUL over vectors of either width: b is packed when it is there, a panel of columns at a time.
//
//   a block of a   [row][k / GROUP][GROUP]                      bytes, or words where GROUP is 2
//   a panel of b   [k / GROUP][vector][lane: column][GROUP]     less 128, as they are signed there
//
//   sum (a - za) (b - zb) = sum a b' + (128 - zb) (sum a - k za) - za sum b'      with b' = b - 128
//
// Register block: ROWS rows of a x VECTORS vectors of columns. Nothing behind an operand is read.
#pragma once

namespace fxq {
namespace {

constexpr int32_t ROWS = 4, VECTORS = SUMS / ROWS, FLOATS = WIDTH / 4, COLUMNS = VECTORS * FLOATS;
using Signed = std::conditional_t<GROUP == 4, int8_t, int16_t>;
using Unsigned = std::make_unsigned_t<Signed>;

struct Panel {  // of a thread's scratch
  int32_t *columns, *rows, *a;  // what is added for each column and row; a block of a
  Signed* b;
  int32_t depth;                // groups of k
};

inline int64_t panel_bytes(int32_t depth) { return 4ll * (COLUMNS + ROWS) * (1 + int64_t{depth}); }

inline Panel panel_of(const Step& s, uint8_t* scratch) {
  Panel p;
  p.depth = ceil_div(s.in.c, GROUP);
  p.columns = reinterpret_cast<int32_t*>(scratch);
  p.b = reinterpret_cast<Signed*>(p.columns + COLUMNS);
  p.a = p.columns + COLUMNS * (1 + int64_t{p.depth});
  p.rows = p.a + ROWS * int64_t{p.depth};
  return p;
}

inline int32_t sum_of(const uint8_t* from, int64_t step, int32_t count) {
  int32_t sum = 0;
  if (step == 1)
    for (int32_t k = 0; k < count; ++k) sum += from[k];
  else
    for (int32_t k = 0; k < count; ++k) sum += from[k * step];
  return sum;
}

// Bytes side by side move four at once.
inline void pack_column(const View& b, const uint8_t* from, const Panel& p, int32_t column) {
  Signed* to = p.b + column * GROUP;
  int32_t k = 0;
  if (GROUP == 4 && b.channel == 1)
    for (; k + 4 <= b.c; k += 4) {
      uint32_t four;
      std::memcpy(&four, from + k, 4);
      four ^= 0x80808080u;  // less 128, byte by byte
      std::memcpy(to + int64_t{k} * COLUMNS, &four, 4);
    }
  for (; k < b.c; ++k)
    to[int64_t{k / GROUP} * COLUMNS * GROUP + k % GROUP] = Signed(from[k * b.channel] - 128);
}

inline void pack_columns(const Step& s, const uint8_t* from, int32_t count, const Panel& p) {
  std::memset(p.b, 0, 4ll * COLUMNS * p.depth);
  std::memset(p.columns, 0, 4 * COLUMNS);
  for (int32_t column = 0; column < count; ++column, from += s.other.pixel) {
    pack_column(s.other, from, p, column);
    const int32_t sum = sum_of(from, s.other.channel, s.other.c) - 128 * s.other.c;
    p.columns[column] = (LESS - s.code.zero_in) * sum;
  }
}

inline void pack_rows(const Step& s, const uint8_t* from, int32_t count, const Panel& p) {
  std::memset(p.a, 0, 4ll * ROWS * p.depth);
  for (int32_t row = 0; row < count; ++row, from += s.in.pixel) {
    auto* to = reinterpret_cast<Unsigned*>(p.a + int64_t{row} * p.depth);
    if (GROUP == 4 && s.in.channel == 1)
      std::memcpy(to, from, s.in.c);
    else
      for (int32_t k = 0; k < s.in.c; ++k) to[k] = from[k * s.in.channel];
    const int32_t sum = sum_of(from, s.in.channel, s.in.c) - s.code.zero_in * s.in.c;
    p.rows[row] = (128 - s.code.zero_other) * sum;
  }
}

// The order of pack_ints and pack_words, undone.
alignas(64) const int32_t IN_ORDER[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
alignas(64) const int32_t IN_ORDER_256[8] = {0, 4, 1, 5, 2, 6, 3, 7};
inline Vector in_order(Vector x) {
  if (WIDTH == 16) return x;
  return permute_ints(x, load(WIDTH == 64 ? IN_ORDER : IN_ORDER_256));
}

template <int COUNT>
inline void store_row(const Instruction& code, const Vector sum[COUNT], uint8_t* out, int32_t left) {
  if (code.flags & FLOAT_OUT) {
#pragma GCC unroll 4
    for (int v = 0; v < COUNT; ++v)
      store_floats(out + v * WIDTH, mul(to_floats(sum[v]), floats_of(code.m0)), left - v * FLOATS);
    return;
  }
  const Range range = range_of(code);
  Sums q{{zeros(), zeros(), zeros(), zeros()}};
#pragma GCC unroll 4
  for (int v = 0; v < COUNT; ++v)
    q.v[v] = to_ints(min(mul(to_floats(sum[v]), floats_of(code.m0)), range.most));
  store(out, in_order(narrow(q, range)), left);
}

template <int COUNT>  // vectors of columns
inline void multiply(const Step& s, const Panel& p, uint8_t* out, int32_t rows, int32_t columns) {
  Vector sum[ROWS][COUNT];
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < COUNT; ++v)
      sum[r][v] = add_ints(load(p.columns + v * FLOATS), ints_of(p.rows[r]));
  const auto* b = reinterpret_cast<const uint8_t*>(p.b);
  for (int32_t k = 0; k < p.depth; ++k, b += VECTORS * WIDTH)
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) {
      const Vector a = ints_of(p.a[int64_t{r} * p.depth + k]);
#pragma GCC unroll 4
      for (int v = 0; v < COUNT; ++v) sum[r][v] = dot(sum[r][v], a, load(b + v * WIDTH));
    }
#pragma GCC unroll 4
  for (int r = 0; r < ROWS; ++r)
    if (r < rows) store_row<COUNT>(s.code, sum[r], out + r * s.out.pixel, columns);
}

template <int COUNT>
inline void multiply_rows(const Step& s, const Panel& p, const uint8_t* a, uint8_t* out,
                          int32_t columns) {
  if constexpr (COUNT > 1)
    if (columns <= (COUNT - 1) * FLOATS) return multiply_rows<COUNT - 1>(s, p, a, out, columns);
  for (int32_t n = 0; n < s.out.w; n += ROWS, a += ROWS * s.in.pixel, out += ROWS * s.out.pixel) {
    const int32_t rows = least(ROWS, s.out.w - n);
    pack_rows(s, a, rows, p);
    multiply<COUNT>(s, p, out, rows, columns);
  }
}

// Units: the panels of the first matrix, then those of the next.
void matmul_panels(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const int32_t panels = ceil_div(s.out.c, COLUMNS);
  const Panel p = panel_of(s, scratch);
  std::memset(p.rows, 0, 4 * ROWS);
  for_units(s, o, chunk, [&](const Operands& image, int32_t unit) {
    const int32_t matrix = unit / panels, first = unit % panels * COLUMNS;
    const int32_t columns = least(COLUMNS, s.out.c - first);
    pack_columns(s, image.other + matrix * s.other.row + first * s.other.pixel, columns, p);
    multiply_rows<VECTORS>(s, p, image.in + matrix * s.in.row,
                           image.out + matrix * s.out.row + first * s.out.channel, columns);
  });
}

// `rate`: multiply-accumulates per nanosecond.
bool prepare_matmul(Step& s, int32_t images, double rate) {
  if (panel_bytes(ceil_div(s.in.c, GROUP)) > SCRATCH) return false;
  s.run = matmul_panels;
  cut(s, images, s.out.h * ceil_div(s.out.c, COLUMNS),
      double(s.in.c) * s.out.w * COLUMNS / rate);
  return true;
}

}  // namespace
}  // namespace fxq
