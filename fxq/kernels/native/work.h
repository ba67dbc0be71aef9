// How a step is cut into chunks, and the walks over its values that all kernels share.
//
// A step is `units` pieces for each image (rows, groups of rows, panels of channels). A chunk is a
// run of units of all images together, so that a batch of small values still keeps threads busy.
#pragma once
#include "step.h"

namespace fxq {

// The size of a chunk in the step's variant, where the rule's is 1.
double chunk_size(const Step& step);

// Sets numbers {units, units a chunk} and `chunks`, for chunks of 3 µs or more by the rule.
void cut(Step& step, int32_t images, int32_t units, double nanoseconds_a_unit);
void add_number(Step& step, int32_t number);  // here, so that vector files instantiate no std code

namespace {

inline int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
inline int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }
inline int32_t ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }

inline const uint8_t* pixel(const View& v, const uint8_t* base, int32_t y, int32_t x) {
  return base + y * v.row + x * v.pixel;
}
inline uint8_t* pixel(const View& v, uint8_t* base, int32_t y, int32_t x) {
  return base + y * v.row + x * v.pixel;
}

inline Operands image_of(const Step& s, const Operands& o, int32_t i) {
  return {o.in + i * s.in.image, o.other + i * s.other.image, o.out + i * s.out.image, 1};
}

// body(operands of one image, unit of that image), for each unit of a chunk.
template <class Body>
inline void for_units(const Step& s, const Operands& o, int32_t chunk, Body body) {
  const int32_t units = s.numbers.data()[0], per = s.numbers.data()[1];
  const int32_t end = least((chunk + 1) * per, units * o.images);
  for (int32_t u = chunk * per; u < end; ++u) body(image_of(s, o, u / units), u % units);
}

inline bool dense(const View& v) { return v.pixel == v.c; }

// The numbers of a row lie in runs of `bytes` side by side: the whole row, or pixel by pixel.
struct Runs {
  int32_t count;
  int64_t bytes;
};

inline Runs runs_of(const Step& s, bool whole) {
  if (whole) return {1, int64_t(s.out.w) * s.out.c};
  return {s.out.w, s.out.c};
}

// body(in, other, out), for each run of row y.
template <class Body>
inline void for_runs(const Step& s, const Operands& o, int32_t y, Runs runs, Body body) {
  for (int32_t x = 0; x < runs.count; ++x)
    body(pixel(s.in, o.in, y, x), pixel(s.other, o.other, y, x), pixel(s.out, o.out, y, x));
}

}  // namespace
}  // namespace fxq
