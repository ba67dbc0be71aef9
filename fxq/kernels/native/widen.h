// Bytes to floats and back, for either width of vectors.
#pragma once

namespace fxq {
namespace {

// 32768 + x as floats: the byte is put into the mantissa of 2^15. Products of (32768 + x) with an
// integer of nine bits are exact, as they fit in 24 bits.
constexpr int32_t BIAS = 32768, BIAS_HIGH_HALF = 0x4700;

inline Quad widen(Vector x) {
  const Vector low = low_bytes(zeros(), x), high = high_bytes(zeros(), x);
  const Vector top = words_of(BIAS_HIGH_HALF);
  return {{as_floats(low_words(low, top)), as_floats(high_words(low, top)),
           as_floats(low_words(high, top)), as_floats(high_words(high, top))}};
}

// clamp(rint(v) + zero, low, high). Large values meet min() before the conversion, which has no
// result for them; small ones saturate on the way.
struct Range {
  Floats most;
  Vector zero, low;
};

inline Range range_of(const Instruction& code) {
  return {floats_of(float(code.high - code.zero_out)), words_of(code.zero_out), bytes_of(code.low)};
}

inline Vector narrow(const Sums& q, const Range& r) {
  const Vector low = add_words(pack_ints(q.v[0], q.v[1]), r.zero);
  const Vector high = add_words(pack_ints(q.v[2], q.v[3]), r.zero);
  return max_bytes(pack_words(low, high), r.low);
}

inline Vector narrow(const Quad& x, const Range& r) {
  Sums q;
  for (int k = 0; k < 4; ++k) q.v[k] = to_ints(min(x.v[k], r.most));
  return narrow(q, r);
}

}  // namespace
}  // namespace fxq
