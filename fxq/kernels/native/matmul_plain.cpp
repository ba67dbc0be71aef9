// The definition of MATMUL: products of two values, matrix by matrix.
#include "families.h"
#include "rounding.h"

namespace fxq {
namespace {

// Sums of 32 bits, as check.cpp bounds their length.
int32_t product(const Step& s, const uint8_t* a, const uint8_t* b) {
  int32_t sum = 0;
  for (int32_t k = 0; k < s.in.c; ++k)
    sum += (a[k * s.in.channel] - s.code.zero_in) * (b[k * s.other.channel] - s.code.zero_other);
  return sum;
}

// A chunk is a matrix.
void run(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const int64_t image = chunk / s.out.h, matrix = chunk % s.out.h;
  const uint8_t* a = o.in + image * s.in.image + matrix * s.in.row;
  const uint8_t* b = o.other + image * s.other.image + matrix * s.other.row;
  uint8_t* out = o.out + image * s.out.image + matrix * s.out.row;
  for (int32_t n = 0; n < s.out.w; ++n)
    for (int32_t m = 0; m < s.out.c; ++m) {
      const float v = float(product(s, a + n * s.in.pixel, b + m * s.other.pixel)) * s.code.m0;
      uint8_t* to = out + n * s.out.pixel + m * s.out.channel;
      if (s.code.flags & FLOAT_OUT)
        *reinterpret_cast<float*>(to) = v;
      else
        *to = finish(v, s);
    }
}

}  // namespace

bool prepare_matmul_plain(Step& step, int32_t images) {
  step.run = run;
  step.chunks = images * step.out.h;
  return true;
}

}  // namespace fxq
