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
  int32_t steps;           // of 64 bytes of k; their offsets follow in the step's numbers
};

Lines lines_of(const Step& step) {
  Lines lines;
  memcpy(&lines, runs_of(step) + packed_of(step).runs, sizeof lines);
  return lines;
}

const int32_t* offsets_of(const Step& step) {
  return runs_of(step) + packed_of(step).runs + sizeof(Lines) / sizeof(int32_t);
}

struct Strides {
  int64_t image, row, pixel;
};

struct Grid {  // everything about the pixels of a chunk
  Lines lines;
  Strides in, out, other;
};

struct Segment {  // results of a block that lie side by side
  const int32_t* sums;
  uint8_t* out;
  const uint8_t* other;
  int32_t rows;
};

struct Block {
  const uint8_t* in[2] = {nullptr, nullptr};  // the first pixel of each tile
  int32_t segments;
  Segment segment[32];   // at most one for each row
};

// Goes from tile to tile. Divisions would take longer than a tile's arithmetic.
class Walk {
 public:
  Walk(const Grid& grid, const Operands& operands, int32_t index) : grid_(grid), operands_(operands) {
    const Lines& l = grid.lines;
    const int32_t line = index / l.tiles;
    first_ = index % l.tiles * l.height;
    row_ = first_ / l.period, column_ = first_ % l.period;
    image_ = l.flat ? line : line / l.h, y_ = l.flat ? 0 : line % l.h;
  }

  template <int V>
  void next(Block& block, int32_t tiles, const int32_t* sums) {
    block.segments = 0;
    block.in[1] = nullptr;
    for (int32_t i = 0; i < tiles; i++) next_tile<V>(block, i, sums);
  }

 private:
  template <int V>
  void next_tile(Block& block, int32_t tile, const int32_t* sums) {
    const Lines& l = grid_.lines;
    const int32_t last = l.length - l.height, start = first_ < last ? first_ : last;
    block.in[tile] =
        operands_.in + image_ * grid_.in.image + y_ * grid_.in.row + start * grid_.in.pixel;
    sums += ((tile + 1) * l.height - (start + l.height - first_)) * V * 16;
    for (int32_t rows = start + l.height - first_; rows > 0;) {
      const int32_t real = l.w - column_, n = real > 0 ? real : l.period - column_;
      const int32_t now = n < rows ? n : rows;
      if (real > 0) block.segment[block.segments++] = segment(sums, now);
      sums += now * V * 16, rows -= now, first_ += now, column_ += now;
      if (column_ == l.period) column_ = 0, row_++;
    }
    if (first_ == l.length) next_line();
  }

  Segment segment(const int32_t* sums, int32_t rows) const {
    const int64_t y = y_ + row_, x = column_;
    return {sums, operands_.out + image_ * grid_.out.image + y * grid_.out.row + x * grid_.out.pixel,
            operands_.other + image_ * grid_.other.image + y * grid_.other.row +
                x * grid_.other.pixel,
            rows};
  }

  void next_line() {
    first_ = row_ = column_ = 0;
    if (grid_.lines.flat || ++y_ == grid_.lines.h) y_ = 0, image_++;
  }

  const Grid& grid_;
  const Operands& operands_;
  int32_t first_, row_, column_;
  int64_t image_, y_;
};

// Results of the last block, on their way from sums to memory, some at a time: so they are computed
// while the next block's tiles are multiplied.
template <int V, Kind K>
class Results {
 public:
  static constexpr int TOGETHER = together<V>;

  Results(const Grid& grid, const Epilogue& epilogue, const float* multiplier, uint64_t mask)
      : out_step_(grid.out.pixel), other_step_(grid.other.pixel), epilogue_(epilogue),
        multiplier_(multiplier), mask_(mask) {}

  void begin(const Block& block) {
    next_ = block.segment, end_ = block.segment + block.segments;
    now_ = *next_++;
  }

  // Stores up to `groups` times as many rows as share a register.
  void store(int32_t groups) {
    for (; groups > 0 && now_.rows > 0; groups--) {
      now_.rows < TOGETHER ? store_group(now_.rows) : store_group(TOGETHER);
      now_.rows -= TOGETHER;
      now_.sums += TOGETHER * V * 16;
      now_.out += TOGETHER * out_step_, now_.other += TOGETHER * other_step_;
      if (now_.rows <= 0 && next_ < end_) now_ = *next_++;
    }
  }

 private:
  void store_group(int32_t count) {
    __m512i sums[TOGETHER * V];
    Row rows[TOGETHER];
#pragma GCC unroll 4
    for (int i = 0; i < TOGETHER * V; i++) sums[i] = _mm512_load_si512(now_.sums + i * 16);
#pragma GCC unroll 4
    for (int i = 0; i < TOGETHER; i++) {  // rows that are not there have no mask
      const bool there = i < count;
      rows[i] = {there ? now_.out + i * out_step_ : now_.out,
                 !adds<K> ? nullptr : there ? now_.other + i * other_step_ : now_.other,
                 there ? mask_ : 0};
    }
    finish<V, K>(epilogue_, sums, multiplier_, rows, TOGETHER);
  }

  const int64_t out_step_, other_step_;
  const Epilogue epilogue_;
  const float* multiplier_;
  const uint64_t mask_;
  Segment now_ = {nullptr, nullptr, nullptr, 0};
  const Segment *next_ = nullptr, *end_ = nullptr;
};

// One tile of k: 64 bytes of each pixel.
template <int V>
inline void multiply(const uint8_t* a0, const uint8_t* a1, bool two, int64_t step, const uint8_t* w) {
  _tile_loadd(6, w, V * 64);
  _tile_loadd(4, a0, step);
  _tile_dpbusd(0, 4, 6);
  if (V == 2) _tile_loadd(7, w + 64, V * 64);
  if (V == 2) _tile_dpbusd(1, 4, 7);
  if (!two) return;
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
  const Epilogue epilogue = epilogue_of(step);
  const Operands shifted{operands.in + panel.channel,
                         adds<K> ? operands.other + panel.output : nullptr,
                         operands.out + panel.output * step.out.element, operands.images};
  Results<V, K> results(grid, epilogue, packed.multiplier + panel.vector * 16,
                        ~uint64_t(0) >> (64 - panel.outputs));
  const int32_t *offsets = offsets_of(step), *end = offsets + grid.lines.steps, all = 32;
  const int32_t groups = 2 * grid.lines.height / Results<V, K>::TOGETHER / grid.lines.steps + 1;
  Walk walk(grid, shifted, share.row);
  Block blocks[2];  // the second one's results are stored while the first one's are computed
  for (int32_t i = share.row, turn = 0; i < share.row_end; i += 2, turn ^= 1) {
    auto* sums = reinterpret_cast<int32_t*>(scratch) + turn * 32 * 32;
    Block& block = blocks[turn];
    const bool two = i + 1 < share.row_end;
    walk.template next<V>(block, two ? 2 : 1, sums);
    const uint8_t *in0 = block.in[0], *in1 = block.in[1], *w = panel.weights;
    load_bias<V>(packed.bias + panel.vector * 16);
    for (const int32_t* k = offsets; k < end; k++, w += V * 1024) {
      multiply<V>(in0 + *k, in1 + *k, two, grid.in.pixel, w);
      results.store(groups);
    }
    results.store(all);
    store_sums<V>(sums, grid.lines.height, two);
    results.begin(block);
  }
  results.store(all);
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

// A flat line without borders on either side is one row.
void join_rows(Grid& grid) {
  Lines& l = grid.lines;
  if (!l.flat || l.period != l.w || grid.out.row != l.w * grid.out.pixel ||
      grid.other.row != l.w * grid.other.pixel)
    return;
  l.w = l.period = l.length;
}

void run(const Step& step, const Operands& operands, int32_t chunk, uint8_t* scratch) {
  const bool images = step.out.h == 1 && step.out.w == 1;
  Grid grid{lines_of(step), strides_of(step.in, images), strides_of(step.out, images), {0, 0, 0}};
  if (step.code.flags & RESIDUAL) grid.other = strides_of(step.other, images);
  grid.in.row *= step.code.sh;
  if (!images) grid.in.pixel *= step.code.sw;
  join_rows(grid);
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
  Lines rows{one ? 1 : images, step.out.h, one ? images : step.out.w, 0, 0, 0, 0, 0, 0};
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
  Lines lines = best_lines(step, images);
  const Packed& packed = packed_of(step);
  lines.steps = packed.runs * packed.run_bytes / 64;
  const int32_t tiles = (lines.flat ? 1 : lines.h) * lines.images * lines.tiles;
  split_dense(step, (tiles + 1) / 2, images, 1500);
  append_numbers(step, &lines.images, sizeof lines / sizeof lines.images);
  for (int32_t run = 0; run < packed.runs; run++)
    for (int32_t k = 0; k < packed.run_bytes; k += 64) {
      const int32_t offset = runs_of(step)[run] + k;
      append_numbers(step, &offset, 1);
    }
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
