// Dense convolutions with AMX int8 tiles.
//
// A block is two tiles of up to 16 output pixels by two tiles of 16 outputs:
//
//                      weights: tiles of 16 x 64 bytes, as packed
//                          B0          B1
//   pixels 0..15   A0 ->   C0          C1      tiles 0-3 are sums, 4-5 pixels, 6-7 weights:
//   pixels 16..31  A1 ->   C2          C3      4 loads for 4 tdpbusd
//
// The pixels of an A tile are loaded where they lie, so they must be equally far apart: they are
// part of a *line*, one row of the output, or the whole image, its border pixels computed too and
// not stored. A line's tiles have the same height; the last one overlaps, and stores only the rest.
// A block's results are stored while the next block's tiles are multiplied.
#if defined(__x86_64__)
#include <cstring>

#include <sys/syscall.h>
#include <unistd.h>

#include "dense.h"
#include "weights.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,amx-tile,amx-int8")
#endif
#include <immintrin.h>

#define FXQ_VBMI  // every processor with tiles has it
#include "dense_avx512.h"

namespace fxq {
namespace {

struct Lines {
  int32_t images, h, w;    // of the output; one linear layer for many images is one row of pixels
  int32_t flat;            // whether a line is an image, not a row
  int32_t period, length;  // virtual pixels: from one row of a flat line to the next; in a line
  int32_t tiles, height;   // in a line; pixels in a tile
};

struct Strides {
  int64_t image, row, pixel;
};

struct Grid {  // everything about the pixels of a chunk
  Lines lines;
  Strides in, out, other;
};

struct Tile {  // 16 or fewer pixels of a line
  const uint8_t* in;
  const uint8_t* other;
  uint8_t* out;
  int32_t x, skip;  // column of the first that is stored; how many are not
};

// Goes from tile to tile. Divisions would take longer than a tile's arithmetic.
class Walk {
 public:
  Walk(const Grid& grid, const Operands& operands, int32_t index) : grid_(grid), operands_(operands) {
    const Lines& l = grid.lines;
    line_ = index / l.tiles, first_ = index % l.tiles * l.height;
    row_ = first_ / l.period, column_ = first_ % l.period;
    image_ = l.flat ? line_ : line_ / l.h, y_ = l.flat ? 0 : line_ % l.h;
  }

  Tile next() {
    const Lines& l = grid_.lines;
    const int32_t last = l.length - l.height, start = first_ < last ? first_ : last;
    const int64_t row = y_ + row_, x = column_ < l.w ? column_ : l.w;  // waits for the next row
    const Tile tile{
        operands_.in + image_ * grid_.in.image + y_ * grid_.in.row + start * grid_.in.pixel,
        operands_.other + image_ * grid_.other.image + row * grid_.other.row + x * grid_.other.pixel,
        operands_.out + image_ * grid_.out.image + row * grid_.out.row + x * grid_.out.pixel,
        column_, first_ - start};
    first_ += l.height, column_ += l.height;
    for (; column_ >= l.period; row_++) column_ -= l.period;
    if (first_ >= l.length) next_line();
    return tile;
  }

 private:
  void next_line() {
    first_ = row_ = column_ = 0;
    if (grid_.lines.flat || ++y_ == grid_.lines.h) y_ = 0, image_++;
  }

  const Grid& grid_;
  const Operands& operands_;
  int32_t line_, first_, row_, column_;
  int64_t image_, y_;
};

// Results of the last block, on their way from sums to memory.
template <int V, Kind K>
class Results {
 public:
  Results(const Grid& grid, const Operands& first, const Epilogue& epilogue,
          const float* multiplier, uint64_t mask)
      : grid_(grid), first_(first), epilogue_(epilogue), multiplier_(multiplier), mask_(mask) {}

  void begin(const int32_t* sums, const Tile* tiles, int32_t count) {
    for (int32_t i = 0; i < count; i++) tiles_[i] = tiles[i];
    sums_ = sums, left_ = count, tile_ = tiles_;
    row_ = tile_->skip;
  }

  void store() {
    while (left_) {
      const int32_t height = grid_.lines.height - row_, width = grid_.lines.w - tile_->x;
      const int32_t straight = (height < width ? height : width) / count;
      if (straight > 0)
        store_straight(straight);
      else
        store_group();
      if (row_ < grid_.lines.height) continue;
      sums_ += grid_.lines.height * V * 16;
      if (--left_) row_ = (++tile_)->skip;
    }
  }

 private:
  static constexpr int count = together<V>;

  // Full groups within a row of the output.
  void store_straight(int32_t groups) {
    const Epilogue epilogue = epilogue_;
    const int64_t out_step = grid_.out.pixel, other_step = grid_.other.pixel;
    const int32_t *sums = sums_ + row_ * V * 16, *end = sums + groups * count * V * 16;
    const float* multiplier = multiplier_;
    uint8_t* out = tile_->out;
    const uint8_t* other = tile_->other;
    const uint64_t mask = mask_;
    for (; sums < end; sums += count * V * 16) {
      __m512i s[count * V];
      Row rows[count];
#pragma GCC unroll 4
      for (int i = 0; i < count * V; i++) s[i] = _mm512_load_si512(sums + i * 16);
#pragma GCC unroll 4
      for (int i = 0; i < count; i++)
        rows[i] = {out + i * out_step, adds<K> ? other + i * other_step : nullptr, mask};
      out += count * out_step, other += count * other_step;
      finish<V, K>(epilogue, s, multiplier, rows, count);
    }
    tile_->out = out, tile_->other = other;
    tile_->x += groups * count, row_ += groups * count;
    if (tile_->x == grid_.lines.period) wrap();
  }

  void store_group() {
    __m512i sums[count * V];
    Row rows[count];
#pragma GCC unroll 4
    for (int i = 0; i < count * V; i++)
      sums[i] = _mm512_load_si512(sums_ + row_ * V * 16 + i * 16);
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) rows[i] = next();
    finish<V, K>(epilogue_, sums, multiplier_, rows, count);
  }

  // The next row; one that is not stored has an address within the tensor all the same.
  Row next() {
    Tile& t = *tile_;
    if (row_ >= grid_.lines.height) return {first_.out, first_.other, 0};
    const bool real = t.x < grid_.lines.w;
    const Row row{real ? t.out : first_.out, real ? t.other : first_.other, real ? mask_ : 0};
    if (real) t.out += grid_.out.pixel, t.other += grid_.other.pixel;
    row_++;
    if (++t.x == grid_.lines.period) wrap();
    return row;
  }

  void wrap() {
    tile_->x = 0;
    tile_->out += grid_.out.row - grid_.lines.w * grid_.out.pixel;
    tile_->other += grid_.other.row - grid_.lines.w * grid_.other.pixel;
  }

  const Grid& grid_;
  const Operands& first_;
  const Epilogue& epilogue_;
  const float* multiplier_;
  const uint64_t mask_;
  const int32_t* sums_ = nullptr;
  Tile tiles_[2];
  Tile* tile_ = tiles_;
  int32_t row_ = 0, left_ = 0;
};

// One tile of k: 64 bytes of each pixel.
template <int V>
inline void multiply(const uint8_t* a0, const uint8_t* a1, int64_t step, const uint8_t* w) {
  _tile_loadd(6, w, V * 64);
  _tile_loadd(4, a0, step);
  _tile_dpbusd(0, 4, 6);
  if (V == 2) _tile_loadd(7, w + 64, V * 64);
  if (V == 2) _tile_dpbusd(1, 4, 7);
  if (!a1) return;
  _tile_loadd(5, a1, step);
  _tile_dpbusd(2, 5, 6);
  if (V == 2) _tile_dpbusd(3, 5, 7);
}

template <int V>
inline void load_bias(const int32_t* bias) {
  _tile_loadd(0, bias, 0);
  _tile_loadd(2, bias, 0);
  if (V == 2) _tile_loadd(1, bias + 16, 0);
  if (V == 2) _tile_loadd(3, bias + 16, 0);
}

template <int V>
inline void store_sums(int32_t* sums, int32_t height, bool two) {
  _tile_stored(0, sums, V * 64);
  if (V == 2) _tile_stored(1, sums + 16, V * 64);
  if (!two) return;
  _tile_stored(2, sums + height * V * 16, V * 64);
  if (V == 2) _tile_stored(3, sums + height * V * 16 + 16, V * 64);
}

template <int V, Kind K>
void run_panel(const Step& step, const Operands& operands, const Grid& grid, const Share& share,
               const Panel& panel, uint8_t* scratch) {
  const Packed& packed = packed_of(step);
  const int32_t* runs = runs_of(step);
  const Epilogue epilogue = epilogue_of(step);
  const Operands shifted{operands.in + panel.channel,
                         adds<K> ? operands.other + panel.output : nullptr,
                         operands.out + panel.output * step.out.element, operands.images};
  Results<V, K> results(grid, shifted, epilogue, packed.multiplier + panel.vector * 16,
                        ~uint64_t(0) >> (64 - panel.outputs));
  auto* sums = reinterpret_cast<int32_t*>(scratch);  // of two blocks in turn
  Walk walk(grid, shifted, share.row);
  for (int32_t i = share.row; i < share.row_end; i += 2) {
    const bool two = i + 1 < share.row_end;
    Tile tiles[2] = {walk.next(), {}};
    if (two) tiles[1] = walk.next();
    load_bias<V>(packed.bias + panel.vector * 16);
    const uint8_t* w = panel.weights;
    for (int32_t run = 0; run < packed.runs; run++)
      for (int32_t k = runs[run]; k < runs[run] + packed.run_bytes; k += 64, w += V * 1024) {
        multiply<V>(tiles[0].in + k, two ? tiles[1].in + k : nullptr, grid.in.pixel, w);
        results.store();  // of the last block, beside the first products
      }
    store_sums<V>(sums, grid.lines.height, two);
    results.begin(sums, tiles, two ? 2 : 1);
    sums = reinterpret_cast<int32_t*>(scratch) + (sums == reinterpret_cast<int32_t*>(scratch) ? 2048 : 0);
  }
  results.store();
}

using RunPanel = void (*)(const Step&, const Operands&, const Grid&, const Share&, const Panel&,
                          uint8_t*);
constexpr RunPanel PANELS[2][4] = {
    {run_panel<1, QUANTIZE>, run_panel<1, ADD_OTHER>, run_panel<1, FLOATS>, run_panel<1, FLOATS_ADD_OTHER>},
    {run_panel<2, QUANTIZE>, run_panel<2, ADD_OTHER>, run_panel<2, FLOATS>, run_panel<2, FLOATS_ADD_OTHER>},
};

void configure(int32_t height) {
  struct alignas(64) {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } tiles = {};
  tiles.palette = 1;
  for (int32_t i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = uint8_t(i < 6 ? height : 16);
  asm volatile("" : : "r"(&tiles) : "memory");  // gcc 12 thinks that 8 bytes are read, not 64
  _tile_loadconfig(&tiles);
}

Strides strides_of(const View& view, bool images) {
  return {view.image, view.row, images ? view.image : view.pixel};
}

Lines lines_of(const Step& step) {
  Lines lines;
  memcpy(&lines, runs_of(step) + packed_of(step).runs, sizeof lines);
  return lines;
}

void run(const Step& step, const Operands& operands, int32_t chunk, uint8_t* scratch) {
  const bool images = step.out.h == 1 && step.out.w == 1;
  Grid grid{lines_of(step), strides_of(step.in, images), strides_of(step.out, images), {0, 0, 0}};
  if (step.code.flags & RESIDUAL) grid.other = strides_of(step.other, images);
  grid.in.row *= step.code.sh;
  if (!images) grid.in.pixel *= step.code.sw;
  const Share pairs = share_of(step, chunk);
  const int32_t all = (grid.lines.flat ? 1 : grid.lines.h) * grid.lines.images * grid.lines.tiles;
  const Share share{pairs.row * 2, pairs.row_end * 2 < all ? pairs.row_end * 2 : all, 0, 0};
  const Kind kind = epilogue_of(step).kind;
  configure(grid.lines.height);
  for (int32_t i = pairs.panel; i < pairs.panel_end; i++) {
    const Panel& panel = packed_of(step).panel[i];
    PANELS[panel.vectors - 1][kind](step, operands, grid, share, panel, scratch);
  }
  _tile_release();
}

// The number of tiles, each 16 cycles of a tdpbusd, whatever its height.
int64_t divide(Lines& lines) {
  lines.length = lines.flat ? (lines.h - 1) * lines.period + lines.w : lines.w;
  lines.tiles = (lines.length + 15) / 16;
  lines.height = (lines.length + lines.tiles - 1) / lines.tiles;
  return int64_t(lines.flat ? 1 : lines.h) * lines.images * lines.tiles;
}

Lines best_lines(const Step& step, int32_t images) {
  const bool one = step.out.h == 1 && step.out.w == 1;
  Lines rows{one ? 1 : images, step.out.h, one ? images : step.out.w, 0, 0, 0, 0, 0};
  rows.period = rows.w;
  const int64_t row = step.in.row * step.code.sh, pixel = step.in.pixel * step.code.sw;
  const int64_t tiles = divide(rows);
  if (one || row % pixel || row / pixel < rows.w) return rows;
  Lines flat = rows;
  flat.flat = 1, flat.period = int32_t(row / pixel);
  return divide(flat) < tiles ? flat : rows;
}

// Linux gives a process tiles when it asks (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool tiles_permitted() {
  static const bool permitted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return permitted;
}

}  // namespace

bool prepare_conv_amx(Step& step, int32_t images) {
  if (images * step.out.h * step.out.w < 2) return false;  // bound by weights: vnni is as fast
  if (!tiles_permitted() || !pack_dense(step, {AMX, 16, 2, 64, 1})) return false;
  const Lines lines = best_lines(step, images);
  const int32_t tiles = (lines.flat ? 1 : lines.h) * lines.images * lines.tiles;
  split_dense(step, (tiles + 1) / 2, images, 1500);
  append_numbers(step, &lines.images, sizeof lines / sizeof lines.images);
  step.run = run;
  return true;
}

}  // namespace fxq

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__
