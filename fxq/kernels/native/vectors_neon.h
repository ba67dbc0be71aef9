// vectors_avx512.h in 128 bits, for Arm's NEON with dot products. (build.py gives the flags.)
#pragma once
#include <arm_neon.h>

#include <cstring>

namespace fxq {
namespace {

constexpr int32_t WIDTH = 16, LANES = WIDTH / 16, SUMS = 16;  // of 32 registers
using Vector = uint8x16_t;
using Floats = float32x4_t;
struct Quad {
  Floats v[4];
};
struct Sums {
  Vector v[4];
};

inline int16x8_t words(Vector x) { return vreinterpretq_s16_u8(x); }
inline int32x4_t ints(Vector x) { return vreinterpretq_s32_u8(x); }
inline Vector as_bytes(int16x8_t x) { return vreinterpretq_u8_s16(x); }
inline Vector as_bytes(int32x4_t x) { return vreinterpretq_u8_s32(x); }

inline Vector load(const void* p) { return vld1q_u8(static_cast<const uint8_t*>(p)); }
inline Floats load_floats(const void* p) { return vld1q_f32(static_cast<const float*>(p)); }
inline void store(void* p, Vector x) { vst1q_u8(static_cast<uint8_t*>(p), x); }
inline void store_floats(void* p, Floats x) { vst1q_f32(static_cast<float*>(p), x); }
inline void store(uint8_t* p, Vector x, int64_t bytes) {  // at most WIDTH
  if (bytes >= WIDTH) return store(p, x);
  uint8_t copy[WIDTH];
  store(copy, x);
  std::memcpy(p, copy, bytes);
}
// x with its bytes from `first` on taken from p + first, behind which SLACK may be read.
inline Vector merge(Vector x, int32_t first, const uint8_t* p) {
  static const uint8_t STEPS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return vqtbx1q_u8(x, load(p + first), vsubq_u8(load(STEPS), vdupq_n_u8(uint8_t(first))));
}
// The first `count` numbers, at most a vector's: the tensors of a caller have no SLACK behind them.
inline Floats load_floats(const void* p, int64_t count) {
  if (count >= 4) return load_floats(p);
  float copy[4] = {};
  std::memcpy(copy, p, 4 * count);
  return load_floats(copy);
}
inline void store_floats(void* p, Floats x, int64_t count) {
  if (count >= 4) return store_floats(p, x);
  float copy[4];
  store_floats(copy, x);
  std::memcpy(p, copy, 4 * count);
}
inline Vector zeros() { return vdupq_n_u8(0); }
inline Vector bytes_of(int32_t x) { return vdupq_n_u8(uint8_t(x)); }
inline Vector words_of(int32_t x) { return as_bytes(vdupq_n_s16(int16_t(x))); }
inline Vector ints_of(int32_t x) { return as_bytes(vdupq_n_s32(x)); }
inline Floats floats_of(float x) { return vdupq_n_f32(x); }

inline Vector max_bytes(Vector a, Vector b) { return vmaxq_u8(a, b); }
inline Vector min_bytes(Vector a, Vector b) { return vminq_u8(a, b); }
inline Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
inline Floats sub(Floats a, Floats b) { return vsubq_f32(a, b); }
inline Floats mul(Floats a, Floats b) { return vmulq_f32(a, b); }
inline Floats div(Floats a, Floats b) { return vdivq_f32(a, b); }
inline Floats min(Floats a, Floats b) { return vminnmq_f32(a, b); }  // b where a is NaN
inline Floats fused(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }  // exact products
inline Floats as_floats(Vector x) { return vreinterpretq_f32_u8(x); }
inline Floats to_floats(Vector x) { return vcvtq_f32_s32(ints(x)); }
inline Vector to_ints(Floats x) { return as_bytes(vcvtnq_s32_f32(x)); }  // half to even
inline Vector add_ints(Vector a, Vector b) { return as_bytes(vaddq_s32(ints(a), ints(b))); }

inline Vector low_bytes(Vector a, Vector b) { return vzip1q_u8(a, b); }
inline Vector high_bytes(Vector a, Vector b) { return vzip2q_u8(a, b); }
inline Vector low_words(Vector a, Vector b) { return as_bytes(vzip1q_s16(words(a), words(b))); }
inline Vector high_words(Vector a, Vector b) { return as_bytes(vzip2q_s16(words(a), words(b))); }
inline Vector low_ints(Vector a, Vector b) { return as_bytes(vzip1q_s32(ints(a), ints(b))); }
inline Vector high_ints(Vector a, Vector b) { return as_bytes(vzip2q_s32(ints(a), ints(b))); }
inline Vector low_longs(Vector a, Vector b) {
  return vreinterpretq_u8_u64(vzip1q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
inline Vector high_longs(Vector a, Vector b) {
  return vreinterpretq_u8_u64(vzip2q_u64(vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b)));
}
inline Vector shuffle_bytes(Vector x, Vector in_lane) { return vqtbl1q_u8(x, in_lane); }
inline Vector permute_ints(Vector x, Vector index) {  // of int k: bytes 4k to 4k + 3
  return vqtbl1q_u8(x, as_bytes(vmlaq_n_s32(vdupq_n_s32(0x03020100), ints(index), 0x04040404)));
}
inline Vector add_words(Vector a, Vector b) {  // saturates
  return as_bytes(vqaddq_s16(words(a), words(b)));
}
inline Vector pack_ints(Vector a, Vector b) {
  return as_bytes(vqmovn_high_s32(vqmovn_s32(ints(a)), ints(b)));
}
inline Vector pack_words(Vector a, Vector b) {
  return vqmovun_high_s16(vqmovun_s16(words(a)), words(b));
}

// The 128-bit lanes of a vector (one), from and to other addresses; `bytes` of each.
inline Vector gather_lanes(const uint8_t* const from[LANES]) { return load(from[0]); }
inline void scatter_lanes(uint8_t* to, int64_t, Vector x, int64_t, int64_t bytes) {
  store(to, x, bytes);
}

// The bytes of a and b in turn: a0 b0 a1 b1 ...
struct Pair {
  Vector v[2];
};
inline Pair zip(Vector a, Vector b) { return {{low_bytes(a, b), high_bytes(a, b)}}; }

// There is no product of unsigned and signed bytes: 128 is subtracted of the unsigned ones, and
// biases have 128 times the sum of the weights (`LESS`) in them.
constexpr int32_t LESS = 128;
inline int8x16_t less_128(Vector x) { return vreinterpretq_s8_u8(veorq_u8(x, bytes_of(128))); }
inline Vector dot(Vector sum, Vector taps, Vector weights) {
  return as_bytes(vdotq_s32(ints(sum), less_128(taps), vreinterpretq_s8_u8(weights)));
}
struct Ones {};  // weights that add taps: these are unsigned, and nothing is subtracted
inline Ones ones() { return {}; }
inline Vector dot(Vector sum, Vector taps, Ones) {
  return vreinterpretq_u8_u32(vdotq_u32(vreinterpretq_u32_u8(sum), taps, bytes_of(1)));
}

}  // namespace
}  // namespace fxq

#include "interleave.h"
#include "widen.h"
