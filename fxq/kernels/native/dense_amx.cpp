// Dense convolutions with AMX int8 tiles.
//
// A block is two tiles of up to 16 output pixels by two tiles of 16 outputs:
//
//                      weights: tiles of 16 x 64 bytes, as packed
//                          B0          B1
//   pixels 0..15   A0 ->   C0          C1      tiles 0-3 are sums, 4-5 pixels, 6-7 weights:
//   pixels 16..31  A1 ->   C2          C3      4 loads for 4 tdpbusd
//
// dense_amx_lines.h says which pixels a tile has. Results of a block are stored while the tiles of
// the next one are multiplied, evenly: processors look about 100 vector instructions ahead.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "amx_tiles.h"
#include "dense.h"

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,amx-tile,amx-int8")
#endif
#include <immintrin.h>

#define FXQ_VBMI  // every processor with tiles has it
#include "dense_amx_lines.h"
#include "dense_avx512.h"

namespace fxq {
namespace {

constexpr int32_t SUMS = 32 * 32;       // of a block
constexpr int64_t GROUP_BYTES = 16384;  // of weights that stay in the first cache beside pixels

// Results of the last block, on their way from sums to memory, some at a time.
template <int V, Kind K>
class Results {
 public:
  static constexpr int TOGETHER = together<V>;

  Results(const Step& step, const Grid& grid)
      : packed_(packed_of(step)), element_(step.out.element), out_step_(grid.out.pixel),
        other_step_(grid.other.pixel), epilogue_(epilogue_of(step)) {}

  void begin(const Block& block, const Panel& panel, const int32_t* sums) {
    multiplier_ = packed_.multiplier + panel.vector * 16;
    mask_ = ~uint64_t(0) >> (64 - panel.outputs);
    base_ = sums;
    out_ = panel.output * element_, other_ = adds<K> ? panel.output : 0;
    next_ = block.segment, end_ = block.segment + block.segments;
    next_segment();
  }

  // Stores up to `groups` times as many pixels as share a register.
  void store(int32_t groups) {
    for (; groups > 0 && pixels_ > 0; groups--) {
      pixels_ < TOGETHER ? store_group(pixels_) : store_group(TOGETHER);
      pixels_ -= TOGETHER;
      sums_ += TOGETHER * V * 16;
      to_ += TOGETHER * out_step_, with_ += TOGETHER * other_step_;
      if (pixels_ <= 0 && next_ < end_) next_segment();
    }
  }

 private:
  void next_segment() {
    sums_ = base_ + next_->first * V * 16;
    to_ = next_->out + out_, with_ = next_->other + other_;
    pixels_ = next_++->pixels;
  }

  void store_group(int32_t count) {
    __m512i sums[TOGETHER * V];
    Row rows[TOGETHER];
#pragma GCC unroll 4
    for (int i = 0; i < TOGETHER * V; i++) sums[i] = _mm512_load_si512(sums_ + i * 16);
#pragma GCC unroll 4
    for (int i = 0; i < TOGETHER; i++) {  // rows that are not there have no mask
      const int64_t row = i < count ? i : 0;
      rows[i] = {to_ + row * out_step_, adds<K> ? with_ + row * other_step_ : nullptr,
                 i < count ? mask_ : 0};
    }
    finish<V, K>(epilogue_, sums, multiplier_, rows, TOGETHER);
  }

  const Packed& packed_;
  const int64_t element_, out_step_, other_step_;
  const Epilogue epilogue_;
  const float* multiplier_ = nullptr;
  uint64_t mask_ = 0;
  int64_t out_ = 0, other_ = 0;  // bytes to the panel's first output
  const int32_t *base_ = nullptr, *sums_ = nullptr;
  uint8_t* to_ = nullptr;
  const uint8_t* with_ = nullptr;
  int32_t pixels_ = 0;
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
inline void store_tiles(int32_t* sums, int32_t height, bool two) {
  _tile_stored(0, sums, V * 64);
  if (V == 2) _tile_stored(1, sums + 16, V * 64);
  if (!two) return;
  _tile_stored(2, sums + height * V * 16, V * 64);
  if (V == 2) _tile_stored(3, sums + height * V * 16 + 16, V * 64);
}

// Panels of V vectors, all for a block before the next block.
template <int V, Kind K>
void run_panels(const Step& step, const Operands& operands, const Grid& grid, const Share& share,
                uint8_t* scratch) {
  const Packed& packed = packed_of(step);
  const int32_t *offsets = offsets_of(step), *end = offsets + grid.lines.steps, all = 32;
  const int32_t per_step = together<V> * grid.lines.steps;
  const int32_t groups = (2 * grid.lines.height + per_step - 1) / per_step;
  auto* sums = reinterpret_cast<int32_t*>(scratch);
  int32_t turn = 0, block_turn = 0;
  Block blocks[2];  // of one, the results are stored
  Results<V, K> results(step, grid);
  Walk walk(grid, operands, share.row);
  for (int32_t i = share.row; i < share.row_end; i += 2, block_turn ^= 1) {
    Block& block = blocks[block_turn];
    const bool two = i + 1 < share.row_end;
    walk.next(block, two ? 2 : 1);
    for (int32_t p = share.panel; p < share.panel_end; p++, turn ^= 1) {
      const Panel& panel = packed.panel[p];
      const uint8_t *in0 = block.in[0] + panel.channel, *w = panel.weights;
      const uint8_t* in1 = two ? block.in[1] + panel.channel : nullptr;
      load_bias<V>(packed.bias + panel.vector * 16);
      for (const int32_t* k = offsets; k < end; k++, w += V * 1024) {
        multiply<V>(in0 + *k, two ? in1 + *k : nullptr, two, grid.in.pixel, w);
        results.store(groups);
      }
      results.store(all);
      store_tiles<V>(sums + turn * SUMS, grid.lines.height, two);
      results.begin(block, panel, sums + turn * SUMS);
    }
  }
  results.store(all);
}

using RunPanels = void (*)(const Step&, const Operands&, const Grid&, const Share&, uint8_t*);
constexpr RunPanels PANELS[2][5] = {
    {run_panels<1, QUANTIZE>, run_panels<1, ADD_OTHER>, run_panels<1, FLOATS>,
     run_panels<1, FLOATS_ADD_OTHER>, run_panels<1, RAW>},
    {run_panels<2, QUANTIZE>, run_panels<2, ADD_OTHER>, run_panels<2, FLOATS>,
     run_panels<2, FLOATS_ADD_OTHER>, run_panels<2, RAW>},
};

// Panels from `first` on, of the same width, whose weights stay in the first cache together.
int32_t group_end(const Packed& packed, const Share& share, int32_t first) {
  const int64_t bytes = int64_t(packed.runs) * packed.run_bytes * 16;
  int64_t left = GROUP_BYTES;
  int32_t end = first;
  do left -= packed.panel[end++].vectors * bytes;
  while (end < share.panel_end && packed.panel[end].vectors == packed.panel[first].vectors &&
         left >= packed.panel[end].vectors * bytes);
  return end;
}

void run(const Step& step, const Operands& operands, int32_t chunk, uint8_t* scratch) {
  const Grid grid = grid_of(step);
  const Lines& l = grid.lines;
  const Packed& packed = packed_of(step);
  const Share share = share_of(step, chunk);  // its rows are pairs of tiles
  const int32_t tiles = (l.flat ? 1 : l.h) * l.images * l.tiles;
  const Kind kind = epilogue_of(step).kind;
  configure_tiles(l.height);
  for (int32_t i = share.panel, end; i < share.panel_end; i = end) {
    end = group_end(packed, share, i);
    const Share part{share.row * 2, share.row_end * 2 < tiles ? share.row_end * 2 : tiles, i, end};
    PANELS[packed.panel[i].vectors - 1][kind](step, operands, grid, part, scratch);
  }
  _tile_release();
}

// Linux gives a process tiles when it asks (ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
bool tiles_permitted() {
  static const bool permitted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return permitted;
}

}  // namespace

bool prepare_conv_amx(Step& step, int32_t images) {
  if (images * step.out.h * step.out.w < 2) return false;  // bound by weights: vnni is as fast
  if (!tiles_permitted() || !pack_dense(step, with_sums({AMX, 16, 2, 64, 1}))) return false;
  const Packed& packed = packed_of(step);
  Lines lines = best_lines(step, images);
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
