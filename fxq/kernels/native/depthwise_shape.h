// The geometry and the packed weights of the depthwise kernels of any width: see depthwise_vectors.h.
#pragma once
#include "work.h"

namespace fxq {

// Lies in Step::numbers, and behind it the strip's offset of each [group][kx][vector].
struct Shape {
  int32_t units, per;     // groups of `rows` output rows in each panel; those of a chunk
  int32_t rows, groups;   // output rows that a strip serves: 1, 2 or 4; its groups of input rows
  int32_t lanes, period;  // bytes of a pixel in the strip; bytes after which weights come again
  int32_t panels;       // of `lanes` channels each, where those of a pixel are too many for a strip
  int32_t width;        // output pixels of a strip at most
  int32_t phases;       // strips of a group: pixel j of phase p is column j * sw + p
  int32_t line, plane;  // bytes of a strip's pixels side by side; from plane to plane
};

// For each block of the period: [4][width / 4] bias, the same of multipliers, and taps as
// [group][kx][row][4][width]: 32 bits a lane, of 8-bit weights (group 4) or 16-bit ones (group 2).
inline int32_t head_bytes(int32_t width) { return 8 * width; }

struct Lanes {           // of a kernel
  int32_t width, group;  // bytes of a vector; taps in 32 bits of it
  int32_t rows;          // output rows at most, for which there are registers
  int32_t less;          // what it subtracts from each input; biases make good for it
};

// Sets numbers, chunks and packed. False where a float sum might not fit the conversion to integers.
bool shape_depthwise(Step& step, int32_t images, const Lanes& lanes);

namespace {
inline const Shape& shape_of(const Step& s) {
  return *reinterpret_cast<const Shape*>(s.numbers.data());
}
inline const int32_t* offsets_of(const Step& s) {
  return s.numbers.data() + sizeof(Shape) / sizeof(int32_t);
}
// Pixels that a phase needs beside one for each output; -1 where no column of the kernel reads it.
inline int32_t extra_pixels(const Instruction& k, int32_t phase) {
  int32_t extra = -1;
  for (int32_t kx = 0; kx < k.kw; ++kx)
    if (kx * k.dw % k.sw == phase) extra = kx * k.dw / k.sw;
  return extra;
}
}  // namespace
}  // namespace fxq
