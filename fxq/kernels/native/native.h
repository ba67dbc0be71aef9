// What a program is made of. All of it is plain data that Python fills in through ctypes.
//
// A program computes one image (a batch runs it once for each). Values lie in NHWC, as uint8, in an
// arena, with a border of their zero point where a reader needs one, so that no kernel knows edges.
#pragma once
#include <cstdint>

namespace fxq {

// Where a value lies: in the arena of the lane (thread) that computes the image, in memory that
// holds all images of the call, or in a tensor of the caller.
enum Space : int32_t { LANE = 0, WIDE = 1, EXTERNAL = 2 };  // EXTERNAL + k is the k-th tensor

constexpr int64_t SLACK = 64;  // bytes that may be read, never written, behind a value

struct View {
  int32_t space, zero_point;        // borders hold the zero point
  int64_t offset, image;            // bytes to pixel (0, 0); from one image to the next
  int32_t h, w, c, element;         // element: bytes of one number, 1 (uint8) or 4 (float)
  int64_t row, pixel, channel;      // bytes; `channel` is `element` but for tensors of the caller
  int32_t top, left, bottom, right; // stored border, in pixels
};

enum Op : int32_t {
  ENTER,      // float tensor of the caller -> uint8: rint(x * m0) + zero, NaN becomes `high`; of
              // bytes: by a table
  LEAVE,      // uint8 -> float tensor of the caller: (q - zero_in) * m0
  CONV,       // dense and grouped convolutions and linear layers (1x1 on one pixel)
  DEPTHWISE,  // one input channel for each output channel
  ADD,        // rint((a - zero_in) * m0 + (b - zero_other) * m1) + zero
  MULTIPLY,   // rint((a - zero_in) * (b - zero_other) * m0) + zero; b may be one pixel
  TABLE,      // table[q], or a copy where there is no table
  MAX_POOL, AVERAGE_POOL,   // the mean is rint(float(sum - n * zero_in) / n * 1), see below
  SHUFFLE,    // channel shuffle with `groups`
  NEAREST,    // nearest-neighbour resize to the size of the output
  FLATTEN,    // NHWC -> one pixel of C*H*W channels in NCHW order
  TRANSPOSED, // transposed convolution
  RANGE,      // float tensor -> the least and the largest finite number (or 0) of each share of its
              // images: pairs of floats, as many as `out` holds
  RESCALE,    // sums of CONV -> float: see below
  MATMUL,     // rint(Σ (a - zero_in) (b - zero_other) * m0) + zero: see below
};

enum Flags : int32_t {
  WIDE_STEP = 1,   // computes all images of the call at once; its values are WIDE or EXTERNAL
  FLOAT_OUT = 2,   // CONV: stores float(sum) * multiplier (+ relu where `low` is the zero point);
                   // AVERAGE_POOL: the mean, times m0; MATMUL: float(sum) * m0
  RESIDUAL = 4,    // CONV: adds (other - zero_other) * m1 before rounding
  INCLUDE_PAD = 8, // AVERAGE_POOL: divides by kh*kw also at the edges
  ADAPTIVE = 16,   // AVERAGE_POOL: result i averages the rows from floor(i*h/n) to ceil((i+1)*h/n)
  MEASURED = 32,   // ENTER, RESCALE: `other` is what RANGE gave, and holds scale and zero point
  SUMS_OUT = 64,   // CONV: stores the sums, as int32
  CHANNEL_TABLES = 128,  // ENTER of bytes: channel c has table `table` + c
};

// How a step is computed: three bytes of `Instruction::variant`, 0 where a rule decides. Bits are
// those of the rule; a step that has no such choice ignores it.
//   kernel (lowest byte): 1 + the highest instruction set (step.h) whose kernel may be taken
//   split: into how many chunks it is cut
//   panel (highest): 1 for panels of half as many outputs
enum Split : int32_t { BY_RULE, WHOLE, HALF, DOUBLE, ACROSS };  // one; fewer; more; the other way

// One step. A weighted step computes, for each output number,
//   sum = bias[o] + Σ (x - zero_in) * weight          exact, in 32 bits
//   v   = float(sum) * multiplier[o]                  (float32, each operation rounded to nearest)
//   v  += float(other - zero_other) * m1              with RESIDUAL
//   q   = clamp(rint(v) + zero_out, low, high)        half to even
//   out = table ? table[q] : q
// With a MEASURED range [a, b] (float64, each result rounded once to float32):
//   scale = (b - a) / (high - low), at least 2^-126, or 2^-23 where b == a
//   zero  = clamp(low - rint(a / scale), low, high)
// ENTER takes 1 / scale and zero for m0 and zero_out. RESCALE gives, for layers of zero_in 0,
//   v = float(sum - zero * Σ weight) * min(scale * multiplier[o], largest float) + addend[o]
// and 0 for what is not above it where `low` is `zero_out`.
// MATMUL multiplies matrices, one for each row y of its views: `in` has pixels x of c numbers,
// `other` the columns of the second one as pixels, and result (y, x, m) is pixel x times column m.
// Averages: v = float(sum of (x - zero_in)) / float(count), or * m0 after it where m0 is not 1.
struct Instruction {
  int32_t op, flags;
  int32_t in, other, out;           // views; -1 for none
  int32_t layer, table;             // weights and tables of the program; -1 for none
  int32_t kh, kw, sh, sw, dh, dw;   // kernel, stride, dilation
  int32_t ph, pw;                   // padding at top and left (bottom and right follow from sizes)
  int32_t groups;
  int32_t zero_in, zero_other, zero_out, low, high;
  float m0, m1;
  int32_t variant;
};

// Weights as the file holds them; they are packed for the host when the layer is made.
struct Layer {
  int32_t outputs, inputs, groups, kh, kw;  // inputs: channels of one group
  int32_t transposed, zero_in;
  int32_t borrowed;           // the weights stay where they are, for as long as the layer lives
  const int8_t* weight;       // [outputs][inputs][kh][kw]; transposed: [inputs*groups][outputs/groups][kh][kw]
  const int32_t* bias;        // [outputs], at the scale of the sums
  const float* multiplier;    // [outputs]
  const float* addend;        // [outputs] of RESCALE, or null
};

}  // namespace fxq
