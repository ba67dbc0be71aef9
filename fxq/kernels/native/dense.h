// Dense and grouped convolutions and linear layers: what all instruction sets share.
//
// A convolution is a sum of dot products over *runs*: bytes of the input that lie side by side.
// Values have stored borders, so the runs of an output pixel lie at the same offsets from its base
// everywhere, and no kernel knows edges. A run is one (ky, kx), or one ky with all kx where the
// pixels' own distance pads less than rounding each kx up does.
//
//   output pixel ->  base ── run 0 ──┐   c * kw bytes, or c
//                         ── run 1 ──┤   dw pixels or dh rows further
//                         ── run 2 ──┘   sum += u8 bytes * s8 weights
//
// Weights lie in the order in which they are read, zeros where there are none:
//   [panel of a few vectors][run][k / 4][vector][lane: output][4]
// so a kernel may read past a run's end (SLACK): those bytes meet zeros.
#pragma once
#include <cstdint>

#include "step.h"

namespace fxq {

struct Form {        // how a kernel wants its weights
  int32_t isa;
  int32_t lanes;     // outputs in a vector
  int32_t vectors;   // in a panel, at most
  int32_t unit;      // bytes that runs are rounded up to
  int32_t element;   // bytes of a weight: 1, or 2 for pairs (k, k + 2), (k + 1, k + 3) of 16 bits
  int32_t less = 0;  // what the kernel subtracts from each input; biases make good for it
  bool sums = false; // the kernel can store sums (SUMS_OUT): with_sums
};

inline Form with_sums(Form form) {
  form.sums = true;
  return form;
}

struct Panel {             // outputs that are computed together
  int32_t output, outputs; // the first; how many
  int32_t vector, vectors; // the first (of bias, multiplier); how many
  int32_t channel;         // of the input, where its group begins
  int32_t reserved;
  const uint8_t* weights;
};

struct Packed {
  int32_t panels, runs;
  int32_t run_bytes;           // rounded up to `unit`
  float largest;               // no |float(sum) * multiplier| is above it
  const Panel* panel;
  const int32_t* bias;         // one for each lane, zeros where there is no output
  const float* multiplier;
};

struct Share {  // a chunk's part of the work
  int32_t row, row_end, panel, panel_end;
};

// Packs the weights of a step; false where the layout, or a result that could leave 32 bits, needs
// the plain kernel. Then `split_dense` divides `rows` (pieces that the kernel names: pixels, tiles)
// and panels into chunks; `rate` is in multiply-accumulates per nanosecond.
bool pack_dense(Step& step, const Form& form);
void split_dense(Step& step, int32_t rows, int32_t images, double rate);

// Adds a kernel's own numbers. (A vector's functions must not be compiled for newer processors.)
void append_numbers(Step& step, const int32_t* numbers, int32_t count);

const Packed& packed_of(const Step& step);
const int32_t* runs_of(const Step& step);  // offsets from an output pixel's base; then numbers
Share share_of(const Step& step, int32_t chunk);

bool prepare_conv_plain(Step& step, int32_t images);
bool prepare_conv_neon(Step& step, int32_t images);
bool prepare_conv_avx2(Step& step, int32_t images);
bool prepare_conv_avxvnni(Step& step, int32_t images);
bool prepare_conv_vnni(Step& step, int32_t images);
bool prepare_conv_amx(Step& step, int32_t images);
bool prepare_transposed_plain(Step& step, int32_t images);
bool prepare_transposed_neon(Step& step, int32_t images);
bool prepare_transposed_avx2(Step& step, int32_t images);
bool prepare_transposed_avxvnni(Step& step, int32_t images);
bool prepare_transposed_vnni(Step& step, int32_t images);

// A transposed convolution on an instruction set's kernel for convolutions (transposed.cpp).
bool prepare_transposed(Step& step, int32_t images, Prepare conv);

}  // namespace fxq
