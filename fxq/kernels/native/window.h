// Where a pool's window lies in the image.
#pragma once
#include "work.h"

namespace fxq {
namespace {

struct Window {
  int32_t begin, end;  // the taps inside the image
  int32_t padded;      // pixels, clipped only to the padded image, as torch counts them
};

inline Window window(int32_t start, int32_t k, int32_t dilation, int32_t size, int32_t padding) {
  const int32_t end = least(start + (k - 1) * dilation + 1, size + padding);
  const int32_t outside = start < 0 ? ceil_div(-start, dilation) : 0;  // whole taps before 0
  const int32_t begin = start + outside * dilation;
  return {begin, most(begin, least(end, size)), end - start};
}

inline Window share(int32_t i, int32_t size, int32_t parts) {
  const int32_t begin = int32_t(int64_t{i} * size / parts);
  const int32_t end = int32_t(((i + int64_t{1}) * size + parts - 1) / parts);
  return {begin, end, end - begin};
}

inline Window window_y(const Step& s, int32_t y) {
  if (s.code.flags & ADAPTIVE) return share(y, s.in.h, s.out.h);
  return window(y * s.code.sh - s.code.ph, s.code.kh, s.code.dh, s.in.h, s.code.ph);
}
inline Window window_x(const Step& s, int32_t x) {
  if (s.code.flags & ADAPTIVE) return share(x, s.in.w, s.out.w);
  return window(x * s.code.sw - s.code.pw, s.code.kw, s.code.dw, s.in.w, s.code.pw);
}

inline int32_t divisor(const Step& s, Window y, Window x) {
  if (s.code.flags & INCLUDE_PAD) return y.padded * x.padded;
  return (y.end - y.begin) * (x.end - x.begin);
}

}  // namespace
}  // namespace fxq
