// How the strips of depthwise_vectors.h are filled: GROUP rows, interleaved into four planes.
#pragma once

namespace fxq {
namespace {

struct Rows {
  const uint8_t* at[GROUP];
};

inline void put(const Vector rows[GROUP], uint8_t* strip, int32_t plane) {
  const Sums x = interleave(rows);
  for (int k = 0; k < 4; ++k) store(strip + k * plane, x.v[k]);
}

// Fills the four planes of a strip from pixels that lie side by side ...
inline void fill_line(const Rows& rows, int64_t bytes, uint8_t* strip, int32_t plane) {
  for (int64_t i = 0; i < bytes; i += WIDTH) {
    Vector x[GROUP];
    for (int r = 0; r < GROUP; ++r) x[r] = load(rows.at[r] + i);
    put(x, strip + i, plane);
  }
}

// ... or `stride` bytes apart: `used` bytes of each in whole blocks, ...
inline void fill_blocks(const Rows& rows, int64_t stride, int32_t pixels, int32_t used,
                        int32_t lanes, uint8_t* strip, int32_t plane) {
  int32_t within = 0;
  for (int64_t at = 0, end = pixels * stride; at < end;) {
    Vector x[GROUP];
    for (int r = 0; r < GROUP; ++r) x[r] = load(rows.at[r] + at + within);
    put(x, strip + within, plane);
    within += WIDTH;
    if (within < used) continue;
    within = 0, at += stride, strip += lanes;
  }
}

// ... or in blocks that are merged from the pixels that they meet.
inline void fill_pixels(const Rows& rows, int64_t stride, int32_t pixels, int32_t lanes,
                        uint8_t* strip, int32_t plane) {
  int64_t at = 0;      // of the pixel that the block begins in
  int32_t within = 0;  // its bytes that were taken
  const int64_t bytes = int64_t(pixels) * lanes, end = pixels * stride;
  for (int64_t i = 0; i < bytes; i += WIDTH) {
    Vector x[GROUP];
    for (int r = 0; r < GROUP; ++r) x[r] = load(rows.at[r] + at + within);
    int32_t filled = lanes - within;
    for (; filled < WIDTH && at + stride < end; filled += lanes) {
      at += stride;
      for (int r = 0; r < GROUP; ++r) x[r] = merge(x[r], filled, rows.at[r] + at - filled);
    }
    within = lanes - (filled - WIDTH);
    if (within == lanes) at += stride, within = 0;
    put(x, strip + i, plane);
  }
}

}  // namespace
}  // namespace fxq
