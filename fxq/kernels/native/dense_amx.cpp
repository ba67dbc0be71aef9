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
// The vectors of a block's results are stored while the next block's tiles are multiplied.
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

Tile tile_at(const Grid& grid, const Operands& operands, int32_t index) {
  const Lines& l = grid.lines;
  const int32_t line = index / l.tiles, first = index % l.tiles * l.height;
  const int32_t start = first < l.length - l.height ? first : l.length - l.height;
  const int64_t image = l.flat ? line : line / l.h, y = l.flat ? 0 : line % l.h;
  const int64_t row = y + first / l.period, column = first % l.period;
  const int64_t x = column < l.w ? column : l.w - 1;  // addresses wait there for the next row
  return {operands.in + image * grid.in.image + y * grid.in.row + start * grid.in.pixel,
          operands.other + image * grid.other.image + row * grid.other.row + x * grid.other.pixel,
          operands.out + image * grid.out.image + row * grid.out.row + x * grid.out.pixel,
          int32_t(column), first - start};
}

// Results of the last block, on their way from sums to memory.
template <int V, Kind K>
class Results {
 public:
  Results(const Grid& grid, const Epilogue& epilogue, const float* multiplier, uint64_t mask)
      : grid_(grid), epilogue_(epilogue), multiplier_(multiplier), mask_(mask) {}

  void begin(const int32_t* sums, const Tile* tiles, int32_t count) {
    for (int32_t i = 0; i < count; i++) tiles_[i] = tiles[i];
    sums_ = sums, left_ = count, tile_ = tiles_;
    row_ = tile_->skip;
  }

  // Stores up to `groups` times as many rows as share a register.
  void store(int32_t groups) {
    for (; left_ && groups > 0; groups--) {
      group();
      if (row_ < grid_.lines.height) continue;
      sums_ += grid_.lines.height * V * 16;
      if (--left_) row_ = (++tile_)->skip;
    }
  }

 private:
  void group() {
    constexpr int count = together<V>;
    __m512i sums[count * V];
    Row rows[count];
#pragma GCC unroll 4
    for (int i = 0; i < count * V; i++)
      sums[i] = _mm512_load_si512(sums_ + row_ * V * 16 + i * 16);
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) rows[i] = next();
    finish<V, K>(epilogue_, sums, multiplier_, rows, count);
    if (epilogue_.table) look_up(epilogue_.table, rows, count);
  }

  Row next() {
    Tile& t = *tile_;
    const bool stored = row_ < grid_.lines.height && t.x < grid_.lines.w;
    const Row row{t.out, t.other, stored ? mask_ : 0};
    if (++row_ >= grid_.lines.height) return row;  // its address stays within the tensor
    t.x++;
    if (t.x < grid_.lines.w) {
      t.out += grid_.out.pixel, t.other += grid_.other.pixel;
    } else if (t.x == grid_.lines.period) {
      t.x = 0;
      t.out += grid_.out.row - (grid_.lines.w - 1) * grid_.out.pixel;
      t.other += grid_.other.row - (grid_.lines.w - 1) * grid_.other.pixel;
    }
    return row;
  }

  const Grid& grid_;
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
  const Operands shifted{operands.in + panel.channel, operands.other + panel.output,
                         operands.out + panel.output * step.out.element, operands.images};
  const int32_t height = grid.lines.height, steps = packed.runs * packed.run_bytes / 64;
  const int32_t groups = 2 * ((height + together<V> - 1) / together<V>);
  const int32_t quota = (groups + steps - 1) / steps;
  Results<V, K> results(grid, epilogue, packed.multiplier + panel.vector * 16,
                        ~uint64_t(0) >> (64 - panel.outputs));
  auto* sums = reinterpret_cast<int32_t*>(scratch);  // of two blocks in turn
  for (int32_t i = share.row; i < share.row_end; i += 2) {
    const bool two = i + 1 < share.row_end;
    const Tile tiles[2] = {tile_at(grid, shifted, i), tile_at(grid, shifted, two ? i + 1 : i)};
    load_bias<V>(packed.bias + panel.vector * 16);
    const uint8_t* w = panel.weights;
    for (int32_t run = 0; run < packed.runs; run++)
      for (int32_t k = runs[run]; k < runs[run] + packed.run_bytes; k += 64, w += V * 1024) {
        multiply<V>(tiles[0].in + k, two ? tiles[1].in + k : nullptr, grid.in.pixel, w);
        results.store(quota);
      }
    results.store(groups);
    store_sums<V>(sums, height, two);
    results.begin(sums, tiles, two ? 2 : 1);
    sums = reinterpret_cast<int32_t*>(scratch) + (sums == reinterpret_cast<int32_t*>(scratch) ? 2048 : 0);
  }
  results.store(groups);
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

// Tiles of nearly equal height; the time of a pair in cycles, at least the latency of a tdpbusd.
int64_t divide(Lines& lines) {
  lines.length = lines.flat ? (lines.h - 1) * lines.period + lines.w : lines.w;
  lines.tiles = (lines.length + 15) / 16;
  lines.height = (lines.length + lines.tiles - 1) / lines.tiles;
  const int64_t all = int64_t(lines.flat ? 1 : lines.h) * lines.images * lines.tiles;
  return (all + 1) / 2 * (lines.height * 4 < 52 ? 52 : lines.height * 4);
}

Lines best_lines(const Step& step, int32_t images) {
  const bool one = step.out.h == 1 && step.out.w == 1;
  Lines rows{one ? 1 : images, step.out.h, one ? images : step.out.w, 0, 0, 0, 0, 0};
  rows.period = rows.w;
  const int64_t row = step.in.row * step.code.sh, pixel = step.in.pixel * step.code.sw;
  const int64_t time = divide(rows);
  if (one || row % pixel || row / pixel < rows.w) return rows;
  Lines flat = rows;
  flat.flat = 1, flat.period = int32_t(row / pixel);
  return divide(flat) < time ? flat : rows;
}

// Linux gives a process tiles when it asks (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool tiles_permitted() {
  static const bool permitted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return permitted;
}

}  // namespace

bool prepare_conv_amx(Step& step, int32_t images) {
  if (!tiles_permitted() || !pack_dense(step, {AMX, 16, 2, 64, 1})) return false;
  const Lines lines = best_lines(step, images);
  const int32_t tiles = (lines.flat ? 1 : lines.h) * lines.images * lines.tiles;
  split_dense(step, (tiles + 1) / 2, images, 1000);
  const auto* numbers = reinterpret_cast<const int32_t*>(&lines);
  step.numbers.insert(step.numbers.end(), numbers, numbers + sizeof lines / 4);
  step.run = run;
  return true;
}

}  // namespace fxq

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
