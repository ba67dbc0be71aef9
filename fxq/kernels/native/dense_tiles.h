// Blocks of output pixels by panels of outputs, for kernels whose rows may lie anywhere. Included
// behind a file's `#pragma GCC target`, so everything is in an unnamed namespace.
#pragma once

#include <cstring>

#include "dense.h"

namespace fxq {
namespace {

struct Row {             // of results: one pixel's part of a panel
  uint8_t* out;
  const uint8_t* other;
  uint64_t mask;         // which of its outputs are stored
};

inline int32_t dword(const uint8_t* bytes) {
  int32_t value;
  memcpy(&value, bytes, 4);
  return value;
}

template <class Epilogue>
struct Work {  // what the tiles of a panel share
  Epilogue epilogue;
  const uint8_t* weights;
  const int32_t *runs, *bias;
  const float* multiplier;
  int32_t run_count, run_bytes, outputs;
};

template <class Epilogue>
using TileOf = void (*)(const Work<Epilogue>&, const uint8_t* const* in, const Row*);

// Walks the output pixels of all images; the addresses are of a panel's first channels.
struct Cursor {
  const Step& step;
  const Operands& operands;
  const Panel& panel;
  int32_t x, y;
  int64_t image;

  void to(int32_t row) {
    x = row % step.out.w;
    y = row / step.out.w % step.out.h;
    image = row / step.out.w / step.out.h;
  }
  const uint8_t* in() const {
    return operands.in + image * step.in.image + y * step.code.sh * step.in.row +
           x * step.code.sw * step.in.pixel + panel.channel;
  }
  Row row() const {
    const uint64_t mask = ~uint64_t(0) >> (64 - panel.outputs);
    uint8_t* out = operands.out + image * step.out.image + y * step.out.row + x * step.out.pixel;
    Row row{out + panel.output * step.out.element, nullptr, mask};
    if (step.code.flags & RESIDUAL)
      row.other = operands.other + image * step.other.image + y * step.other.row +
                  x * step.other.pixel + panel.output;
    return row;
  }
  void advance() {
    if (++x < step.out.w) return;
    x = 0;
    if (++y < step.out.h) return;
    y = 0;
    image++;
  }
};

// KERNEL names its Epilogue, LANES of a vector, MOST_ROWS for each number of vectors, and TILES.
template <class KERNEL>
void run_panel(const Step& step, const Operands& operands, const Share& share, const Panel& panel) {
  const Packed& packed = packed_of(step);
  const int32_t lane = panel.vector * KERNEL::LANES;
  const Work<typename KERNEL::Epilogue> work{
      KERNEL::epilogue(step), panel.weights,    runs_of(step), packed.bias + lane,
      packed.multiplier + lane, packed.runs, packed.run_bytes, panel.outputs};
  const int32_t total = share.row_end - share.row, most = KERNEL::MOST_ROWS[panel.vectors];
  const int32_t blocks = (total + most - 1) / most;  // of nearly the same size: 49 rows: 6s and 5s
  Cursor cursor{step, operands, panel, 0, 0, 0};
  cursor.to(share.row);
  for (int32_t block = 0, row = 0; block < blocks; block++) {
    const int32_t count = int32_t(int64_t(total) * (block + 1) / blocks) - row;
    const uint8_t* in[8];
    Row rows[8];
    for (int32_t i = 0; i < count; i++, cursor.advance()) {
      in[i] = cursor.in();
      rows[i] = cursor.row();
    }
    KERNEL::TILES[panel.vectors][count - 1](work, in, rows);
    row += count;
  }
}

template <class KERNEL>
void run_tiles(const Step& step, const Operands& operands, int32_t chunk, uint8_t*) {
  const Share share = share_of(step, chunk);
  for (int32_t i = share.panel; i < share.panel_end; i++)
    run_panel<KERNEL>(step, operands, share, packed_of(step).panel[i]);
}

}  // namespace
}  // namespace fxq
