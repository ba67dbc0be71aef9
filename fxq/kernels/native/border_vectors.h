// ENTER and LEAVE over vectors of either width: see border_plain.cpp for what they compute.
//
// narrow() of four vectors of floats leaves, in each 128-bit lane, four bytes of the first vector, four
// of the second, ... Of one long line of floats, a permute of 32-bit pieces puts them in order. Of four
// channels' planes, a 4x4 transposition of bytes in the lane gives pixels of four channels:
//
//   r0 r1 r2 r3 | g0 g1 g2 g3 | b0 b1 b2 b3 | a0 a1 a2 a3   <->   r0 g0 b0 a0 | r1 g1 b1 a1 | ...
//
// and the same transposition of four such vectors, by 32 bits, gives pixels of 16 channels.
#pragma once

namespace fxq {
namespace {

constexpr int32_t COUNT = WIDTH / 4;  // floats of a vector

// Tables that permute: built at each chunk, which costs little beside it.
struct Orders {
  alignas(64) int32_t to_line[COUNT], from_line[COUNT], tight[COUNT];
  alignas(64) uint8_t square[WIDTH], packed[WIDTH];
};

inline Orders orders(int32_t channels) {
  Orders o{};
  for (int32_t i = 0; i < COUNT; ++i) {
    o.to_line[i] = i % LANES * 4 + i / LANES;
    o.from_line[i] = i % 4 * LANES + i / 4;
    o.tight[i] = channels <= 4 ? i / channels % LANES * 4 + i % channels : 0;
  }
  for (int32_t i = 0; i < WIDTH; ++i) {
    const int32_t b = i % 16;
    o.square[i] = uint8_t(b % 4 * 4 + b / 4);
    o.packed[i] = uint8_t(channels <= 4 ? b % channels * 4 + b / channels % 4 : 0);
  }
  return o;
}

// Rows of a 4x4 square in each lane become its columns, by 32 bits.
inline void transpose(Vector x[4]) {
  const Vector a = low_ints(x[0], x[1]), b = high_ints(x[0], x[1]);
  const Vector c = low_ints(x[2], x[3]), d = high_ints(x[2], x[3]);
  x[0] = low_longs(a, c), x[1] = high_longs(a, c), x[2] = low_longs(b, d), x[3] = high_longs(b, d);
}

// ---- ENTER

inline void enter_line(const uint8_t* in, uint8_t* out, int64_t n, Floats m, const Range& range, Vector order) {
  for (int64_t i = 0; i < n; i += WIDTH) {
    Quad v;
    for (int k = 0; k < 4; ++k) {
      const int64_t at = i + k * COUNT, left = n - at;
      v.v[k] = mul(load_floats(in + 4 * (left > 0 ? at : 0), left > 0 ? left : 0), m);
    }
    store(out + i, permute_ints(narrow(v, range), order), n - i);
  }
}

// Up to four channels of COUNT pixels: four bytes of each channel side by side in each lane.
inline Vector enter_planes(const uint8_t* in, int64_t channel, int32_t channels, int64_t pixels, Floats m,
                           const Range& range) {
  Quad v;
  for (int k = 0; k < 4; ++k) {
    const uint8_t* from = in + least(k, channels - 1) * channel;
    v.v[k] = mul(pixels < COUNT ? load_floats(from, pixels) : load_floats(from), m);
  }
  return narrow(v, range);
}

void enter_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Orders order = orders(1);
  const Instruction code = rounding_of(s, o);
  const Runs runs = runs_of(s, s.in.pixel == 4 * s.in.c && dense(s.out));
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for_runs(s, image, y, runs, [&](const uint8_t* in, const uint8_t*, uint8_t* out) {
      enter_line(in, out, runs.bytes, floats_of(code.m0), range_of(code), load(order.to_line));
    });
  });
}

// Images of one to four channels, each in a plane.
template <int CHANNELS>
void enter_image(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Orders order = orders(CHANNELS);
  const Vector packed = load(order.packed), tight = load(order.tight);
  const Range range = range_of(s.code);
  const Floats m = floats_of(s.code.m0);
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    const uint8_t* in = pixel(s.in, image.in, y, 0);
    uint8_t* out = pixel(s.out, image.out, y, 0);
    int32_t left = s.out.w;
    for (; left > 0; left -= COUNT, in += 4 * COUNT, out += COUNT * CHANNELS) {
      const Vector x = enter_planes(in, s.in.channel, CHANNELS, left, m, range);
      store(out, permute_ints(shuffle_bytes(x, packed), tight), least(left, COUNT) * CHANNELS);
    }
  });
}

// Any number of channels, each in a plane: 16 channels of COUNT pixels at a time.
void enter_channels(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Orders order = orders(4);
  const Vector square = load(order.square);
  const Range range = range_of(s.code);
  const Floats m = floats_of(s.code.m0);
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t c = 0; c < s.in.c; c += 16)
      for (int32_t x = 0; x < s.out.w; x += COUNT) {
        const uint8_t* in = pixel(s.in, image.in, y, x) + c * s.in.channel;
        uint8_t* out = pixel(s.out, image.out, y, x) + c;
        const int32_t pixels = least(COUNT, s.out.w - x);
        Vector v[4];
        for (int k = 0; k < 4; ++k) {
          const int32_t at = least(4 * k, s.in.c - c - 1);  // what is beyond the last channel is not stored
          const Vector x = enter_planes(in + at * s.in.channel, s.in.channel, s.in.c - c - at, pixels, m, range);
          v[k] = shuffle_bytes(x, square);
        }
        transpose(v);
        for (int k = 0; k < 4 && k < pixels; ++k)  // lane l of vector k is pixel 4 l + k
          scatter_lanes(out + k * s.out.pixel, 4 * s.out.pixel, v[k], (pixels - k + 3) / 4, s.in.c - c);
      }
  });
}

// ---- LEAVE

inline void leave_line(const uint8_t* in, uint8_t* out, int64_t n, Floats zero, Floats m, Vector order) {
  for (int64_t i = 0; i < n; i += WIDTH) {
    const Quad v = widen(permute_ints(load(in + i), order));
    for (int k = 0; k < 4; ++k) {
      const int64_t at = i + k * COUNT;
      if (at < n) store_floats(out + 4 * at, mul(sub(v.v[k], zero), m), n - at);
    }
  }
}

void leave_lines(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Orders order = orders(1);
  const Runs runs = runs_of(s, s.out.pixel == 4 * s.out.c && dense(s.in));
  const Floats zero = floats_of(float(BIAS + s.code.zero_in)), m = floats_of(s.code.m0);
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for_runs(s, image, y, runs, [&](const uint8_t* in, const uint8_t*, uint8_t* out) {
      leave_line(in, out, runs.bytes, zero, m, load(order.from_line));
    });
  });
}

// 16 channels of COUNT pixels, into planes.
inline void leave_block(const Step& s, const uint8_t* in, uint8_t* out, int32_t pixels, int32_t channels,
                        Floats zero, Floats m, Vector square) {
  Vector v[4];
  for (int k = 0; k < 4; ++k) {
    const uint8_t* from[LANES];
    for (int l = 0; l < LANES; ++l) from[l] = in + least(4 * l + k, pixels - 1) * s.in.pixel;
    v[k] = gather_lanes(from);
  }
  transpose(v);
  for (int k = 0; k < 4; ++k) {
    const Quad q = widen(shuffle_bytes(v[k], square));
    for (int j = 0; j < 4 && 4 * k + j < channels; ++j)
      store_floats(out + (4 * k + j) * s.out.channel, mul(sub(q.v[j], zero), m), pixels);
  }
}

void leave_channels(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  const Orders order = orders(4);
  const Floats zero = floats_of(float(BIAS + s.code.zero_in)), m = floats_of(s.code.m0);
  for_units(s, o, chunk, [&](const Operands& image, int32_t y) {
    for (int32_t c = 0; c < s.in.c; c += 16)
      for (int32_t x = 0; x < s.out.w; x += COUNT)
        leave_block(s, pixel(s.in, image.in, y, x) + c, pixel(s.out, image.out, y, x) + c * s.out.channel,
                    least(COUNT, s.out.w - x), s.in.c - c, zero, m, load(order.square));
  });
}

bool prepare_enter(Step& s, int32_t images) {
  if (s.table || s.in.element != 4 || (s.in.channel != 4 && s.in.pixel != 4)) return false;
  if (s.code.flags & MEASURED && s.in.channel != 4) return false;
  const bool image = s.in.c <= 4 && dense(s.out);
  constexpr decltype(s.run) IMAGE[] = {enter_image<1>, enter_image<2>, enter_image<3>, enter_image<4>};
  s.run = s.in.channel == 4 || s.in.c == 1 ? enter_lines : image ? IMAGE[s.in.c - 1] : enter_channels;
  cut(s, images, s.out.h, 0.1 * s.out.w * s.out.c);
  return true;
}

bool prepare_leave(Step& s, int32_t images) {
  if (s.out.channel != 4 && s.out.pixel != 4) return false;
  s.run = s.out.channel == 4 ? leave_lines : leave_channels;
  cut(s, images, s.out.h, 0.1 * s.out.w * s.out.c);
  return true;
}

}  // namespace
}  // namespace fxq
