// ADD, MULTIPLY and TABLE.
#include <cstring>

#include "families.h"
#include "lookup.h"
#include "rounding.h"
#include "work.h"

namespace fxq {
namespace {

void add(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Instruction& code = s.code;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for_runs(s, image, y, runs_of(s, false), [&](const uint8_t* a, const uint8_t* b, uint8_t* out) {
      for (int32_t i = 0; i < s.out.c; ++i) {
        const float v = float(a[i] - code.zero_in) * code.m0;
        const float w = float(b[i] - code.zero_other) * code.m1;
        out[i] = finish(v + w, s);
      }
    });
  });
}

// `other` may be one pixel, which then scales the channels of all pixels (squeeze-and-excitation).
void multiply(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Instruction& code = s.code;
  const bool one = s.other.h == 1 && s.other.w == 1;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) {
      const uint8_t* a = pixel(s.in, image.in, y, x);
      const uint8_t* b = one ? image.other : pixel(s.other, image.other, y, x);
      uint8_t* out = pixel(s.out, image.out, y, x);
      for (int32_t c = 0; c < s.out.c; ++c) {
        const int32_t product = (a[c] - code.zero_in) * (b[c] - code.zero_other);
        out[c] = finish(float(product) * code.m0, s);
      }
    }
  });
}

void table(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Runs runs = runs_of(s, dense(s.in) && dense(s.out));
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for_runs(s, image, y, runs, [&](const uint8_t* in, const uint8_t*, uint8_t* out) {
      if (s.table) look_up_plain(s.table, in, out, runs.bytes);
      else std::memmove(out, in, runs.bytes);
    });
  });
}

}  // namespace

bool prepare_add_plain(Step& s, int32_t images) {
  s.run = add;
  cut(s, images, s.out.h, 2.0 * s.out.w * s.out.c);
  return true;
}

bool prepare_multiply_plain(Step& s, int32_t images) {
  s.run = multiply;
  cut(s, images, s.out.h, 2.0 * s.out.w * s.out.c);
  return true;
}

bool prepare_table_plain(Step& s, int32_t images) {
  s.run = table;
  cut(s, images, s.out.h, 0.05 * s.out.w * s.out.c);
  return true;
}

}  // namespace fxq
