// Where the pixels of AMX tiles lie. Included behind a file's `#pragma GCC target`, so everything is
// in an unnamed namespace.
//
// The pixels of a tile are loaded where they lie, so they must be equally far apart: they are part
// of a *line*, one row of the output, or a whole image, its border pixels computed too, but not
// stored:
//
//   o o o o o o o . . o o o o o o o . . o o ...     o: output pixel, .: border of the input
//   |--- tile of 16 pixels ---------| |--- next     a flat line of 7 x 7, its period 9
//
// A line's tiles have the same height; the last one overlaps, and stores only what is left.
#pragma once

#include <cstring>

#include "dense.h"

namespace fxq {
namespace {

struct Lines {
  int32_t images, h, w;    // of the output; one linear layer for many images is one row of pixels
  int32_t flat;            // whether a line is an image, not a row
  int32_t period, length;  // pixels from one row of a flat line to the next; in a line
  int32_t tiles, height;   // in a line; pixels in a tile
  int32_t steps;           // of 64 bytes of k; their offsets follow in the step's numbers
};

struct Strides {
  int64_t image, row, pixel;
};

struct Grid {  // everything about the pixels of a step
  Lines lines;
  Strides in, out, other;
};

// The number of tiles, each 16 cycles of a tdpbusd, whatever its height.
inline int64_t divide(Lines& lines) {
  lines.length = lines.flat ? (lines.h - 1) * lines.period + lines.w : lines.w;
  lines.tiles = (lines.length + 15) / 16;
  lines.height = (lines.length + lines.tiles - 1) / lines.tiles;
  return int64_t(lines.flat ? 1 : lines.h) * lines.images * lines.tiles;
}

inline Lines best_lines(const Step& step, int32_t images) {
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

inline Lines lines_of(const Step& step) {
  Lines lines;
  memcpy(&lines, runs_of(step) + packed_of(step).runs, sizeof lines);
  return lines;
}

inline const int32_t* offsets_of(const Step& step) {
  return runs_of(step) + packed_of(step).runs + sizeof(Lines) / sizeof(int32_t);
}

inline Strides strides_of(const View& view, bool images) {
  return {view.image, view.row, images ? view.image : view.pixel};
}

inline Grid grid_of(const Step& step) {
  const bool images = step.out.h == 1 && step.out.w == 1;
  Grid grid{lines_of(step), strides_of(step.in, images), strides_of(step.out, images), {0, 0, 0}};
  if (step.code.flags & RESIDUAL) grid.other = strides_of(step.other, images);
  grid.in.row *= step.code.sh;
  if (!images) grid.in.pixel *= step.code.sw;
  Lines& l = grid.lines;
  const bool joined = grid.out.row == l.w * grid.out.pixel && grid.other.row == l.w * grid.other.pixel;
  if (l.flat && l.period == l.w && joined) l.w = l.period = l.length;  // no borders: one row
  return grid;
}

struct Segment {  // pixels of a block whose results lie side by side
  int32_t first, pixels;
  uint8_t* out;
  const uint8_t* other;
};

struct Block {
  const uint8_t* in[2];  // the first pixel of each tile
  int32_t segments;
  Segment segment[32];   // at most one for each pixel
};

// Goes from block to block. Divisions would take longer than a tile's arithmetic.
class Walk {
 public:
  Walk(const Grid& grid, const Operands& operands, int32_t tile) : grid_(grid), operands_(operands) {
    const Lines& l = grid.lines;
    const int32_t line = tile / l.tiles;
    pixel_ = tile % l.tiles * l.height;
    row_ = pixel_ / l.period, column_ = pixel_ % l.period;
    image_ = l.flat ? line : line / l.h, y_ = l.flat ? 0 : line % l.h;
  }

  void next(Block& block, int32_t tiles) {
    block.segments = 0;
    block.in[1] = nullptr;
    for (int32_t i = 0; i < tiles; i++) next_tile(block, i);
  }

 private:
  void next_tile(Block& block, int32_t tile) {
    const Lines& l = grid_.lines;
    const int32_t last = l.length - l.height, start = pixel_ < last ? pixel_ : last;
    const int32_t end = start + l.height;
    block.in[tile] =
        operands_.in + image_ * grid_.in.image + y_ * grid_.in.row + start * grid_.in.pixel;
    while (pixel_ < end) {
      const int32_t left = end - pixel_, real = l.w - column_;
      const int32_t until = real > 0 ? real : l.period - column_, n = until < left ? until : left;
      if (real > 0) block.segment[block.segments++] = segment((tile + 1) * l.height - left, n);
      pixel_ += n, column_ += n;
      if (column_ == l.period) column_ = 0, row_++;
    }
    if (end == l.length) next_line();
  }

  Segment segment(int32_t first, int32_t pixels) const {
    const int64_t y = y_ + row_, x = column_;
    return {first, pixels,
            operands_.out + image_ * grid_.out.image + y * grid_.out.row + x * grid_.out.pixel,
            operands_.other + image_ * grid_.other.image + y * grid_.other.row + x * grid_.other.pixel};
  }

  void next_line() {
    pixel_ = row_ = column_ = 0;
    if (grid_.lines.flat || ++y_ == grid_.lines.h) y_ = 0, image_++;
  }

  const Grid& grid_;
  const Operands& operands_;
  int32_t pixel_, row_, column_;
  int64_t image_, y_;
};

}  // namespace
}  // namespace fxq
