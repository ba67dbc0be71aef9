// ENTER and LEAVE: float tensors of the caller, with any strides, to and from uint8 in NHWC.
#include <cstring>

#include "families.h"
#include "measured.h"
#include "rounding.h"
#include "work.h"

namespace fxq {
namespace {

float read_float(const uint8_t* p) {
  float x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

void enter(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Instruction code = rounding_of(s, o);
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) {
      const uint8_t* from = pixel(s.in, image.in, y, x);
      uint8_t* to = pixel(s.out, image.out, y, x);
      for (int32_t c = 0; c < s.out.c; ++c) {
        const uint8_t q = requantize(read_float(from + c * s.in.channel) * code.m0, code);
        to[c] = s.table ? s.table[q] : q;
      }
    }
  });
}

// Images that come as uint8: tables hold what each of the 256 values becomes.
void enter_bytes(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const int64_t next = s.code.flags & CHANNEL_TABLES ? 256 : 0, channels = s.out.c;
  const int64_t step = s.in.pixel, plane = s.in.channel, width = s.out.w, to_next = s.out.pixel;
  uint8_t same[256];
  for (int32_t i = 0; i < 256; ++i) same[i] = uint8_t(i);
  const uint8_t* tables = s.table ? s.table : same;
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    const uint8_t* from = pixel(s.in, image.in, y, 0);
    uint8_t* to = pixel(s.out, image.out, y, 0);
    for (int64_t c = 0; c < channels; ++c) {
      const uint8_t* table = tables + c * next;
      for (int64_t x = 0; x < width; ++x) to[x * to_next + c] = table[from[x * step + c * plane]];
    }
  });
}

void leave(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t x = 0; x < s.out.w; ++x) {
      const uint8_t* from = pixel(s.in, image.in, y, x);
      uint8_t* to = pixel(s.out, image.out, y, x);
      for (int32_t c = 0; c < s.out.c; ++c) {
        const float value = float(from[c] - s.code.zero_in) * s.code.m0;
        std::memcpy(to + c * s.out.channel, &value, sizeof value);
      }
    }
  });
}

}  // namespace

bool prepare_enter_plain(Step& s, int32_t images) {
  s.run = s.in.element == 1 ? enter_bytes : enter;
  cut(s, images, s.out.h, 1.0 * s.out.w * s.out.c);
  return true;
}

bool prepare_leave_plain(Step& s, int32_t images) {
  s.run = leave;
  cut(s, images, s.out.h, 1.0 * s.out.w * s.out.c);
  return true;
}

}  // namespace fxq
