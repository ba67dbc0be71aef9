// Dense convolutions with NEON and dot products of signed bytes: 128 is subtracted of each input
// byte, and the biases have 128 times the sum of the weights in them, so that sums are exact.
//
// The register block of a 5 x 4 tile: a vector holds the sums of 4 outputs.
//
//               weights of 4 bytes of k       a pixel's 16 bytes of k stay in a register, of which
//               w0   w1   w2   w3             sdot takes 4: 20 sums + 5 pixels + 4 weights are 29 of
//   pixel 0 ->  s00  s01  s02  s03            32 registers; 21 loads for 80 sdot
//      ...
//   pixel 4 ->  s40  s41  s42  s43
#include <arm_neon.h>

#include "dense_tiles.h"
#include "lookup.h"

namespace fxq {
namespace {

struct Epilogue {
  const Step* step;
  float32x4_t m1;
  int32x4_t zero_other;
  int16x8_t zero_out;
  uint8x16_t low, high;
};

// The 4 bytes at `bytes`, of which the last may be the memory's.
inline int32x4_t numbers_of(const uint8_t* bytes) {
  const uint8x8_t four = vreinterpret_u8_s32(vdup_n_s32(dword(bytes)));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four))));
}

inline float32x4_t scaled(const Work<Epilogue>& work, int32x4_t sum, const Row& row, int v4) {
  const Epilogue& e = work.epilogue;
  const float32x4_t v = vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(work.multiplier + v4));
  if (!(e.step->code.flags & RESIDUAL)) return v;
  const int32x4_t q = vsubq_s32(numbers_of(row.other + v4), e.zero_other);
  return vaddq_f32(v, vmulq_f32(vcvtq_f32_s32(q), e.m1));
}

template <int V>
inline void store_floats(const Work<Epilogue>& work, const int32x4_t* sums, const Row& row) {
  const Instruction& code = work.epilogue.step->code;
  float line[V * 4];
  for (int v = 0; v < V; v++) {
    float32x4_t x = scaled(work, sums[v], row, v * 4);
    if (code.low == code.zero_out) x = vmaxnmq_f32(x, vdupq_n_f32(0));
    vst1q_f32(line + v * 4, x);
  }
  memcpy(row.out, line, size_t(work.outputs) * 4);
}

template <int V>
inline void store_bytes(const Work<Epilogue>& work, const int32x4_t* sums, const Row& row) {
  const Epilogue& e = work.epilogue;
  int16x4_t q[4] = {vdup_n_s16(0), vdup_n_s16(0), vdup_n_s16(0), vdup_n_s16(0)};
  for (int v = 0; v < V; v++) q[v] = vqmovn_s32(vcvtnq_s32_f32(scaled(work, sums[v], row, v * 4)));
  const int16x8_t low = vqaddq_s16(vcombine_s16(q[0], q[1]), e.zero_out);
  const int16x8_t high = vqaddq_s16(vcombine_s16(q[2], q[3]), e.zero_out);
  uint8x16_t bytes = vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
  bytes = vminq_u8(vmaxq_u8(bytes, e.low), e.high);
  if (V == 4 && work.outputs == 16) {
    vst1q_u8(row.out, bytes);
  } else {
    uint8_t line[16];
    vst1q_u8(line, bytes);
    memcpy(row.out, line, size_t(work.outputs));
  }
  if (e.step->table) look_up_neon(e.step->table, row.out, row.out, work.outputs);
}

inline int8x16_t less_128(uint8x16_t x) {
  return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(128)));
}

template <int R, int V, int K>  // adds bytes 4 K to 4 K + 3 of each pixel
inline const uint8_t* add(int32x4_t (&s)[R][V], const int8x16_t (&a)[R], const uint8_t* w) {
  int8x16_t b[V];
  __asm__ volatile("" : : : "memory");  // gcc would load the weights of all K first, and spill sums
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) b[v] = vreinterpretq_s8_u8(vld1q_u8(w + v * 16));
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) s[r][v] = vdotq_laneq_s32(s[r][v], b[v], a[r], K);
  return w + V * 16;
}

template <int R, int V>
inline const uint8_t* add_run(int32x4_t (&s)[R][V], const uint8_t* const* in, int64_t k,
                              int64_t end, const uint8_t* w) {
  int8x16_t a[R];
  for (; k + 16 <= end; k += 16) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) a[r] = less_128(vld1q_u8(in[r] + k));
    w = add<R, V, 0>(s, a, w);
    w = add<R, V, 1>(s, a, w);
    w = add<R, V, 2>(s, a, w);
    w = add<R, V, 3>(s, a, w);
  }
  for (; k < end; k += 4) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
      a[r] = less_128(vreinterpretq_u8_s32(vdupq_n_s32(dword(in[r] + k))));
    w = add<R, V, 0>(s, a, w);
  }
  return w;
}

template <int R, int V>
void tile(const Work<Epilogue>& work, const uint8_t* const* in, const Row* rows) {
  int32x4_t s[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) s[r][v] = vld1q_s32(work.bias + v * 4);
  const uint8_t* w = work.weights;
  for (int32_t run = 0; run < work.run_count; run++)
    w = add_run<R, V>(s, in, work.runs[run], work.runs[run] + int64_t(work.run_bytes), w);
  const bool floats = work.epilogue.step->code.flags & FLOAT_OUT;
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
    floats ? store_floats<V>(work, s[r], rows[r]) : store_bytes<V>(work, s[r], rows[r]);
}

struct Kernel {
  using Epilogue = fxq::Epilogue;
  static constexpr int32_t LANES = 4, MOST_ROWS[] = {0, 8, 8, 6, 5};
  static constexpr TileOf<Epilogue> TILES[5][8] = {
      {},
      {tile<1, 1>, tile<2, 1>, tile<3, 1>, tile<4, 1>, tile<5, 1>, tile<6, 1>, tile<7, 1>, tile<8, 1>},
      {tile<1, 2>, tile<2, 2>, tile<3, 2>, tile<4, 2>, tile<5, 2>, tile<6, 2>, tile<7, 2>, tile<8, 2>},
      {tile<1, 3>, tile<2, 3>, tile<3, 3>, tile<4, 3>, tile<5, 3>, tile<6, 3>},
      {tile<1, 4>, tile<2, 4>, tile<3, 4>, tile<4, 4>, tile<5, 4>},
  };
  static Epilogue epilogue(const Step& step) {
    const Instruction& code = step.code;
    return {&step, vdupq_n_f32(code.m1), vdupq_n_s32(code.zero_other),
            vdupq_n_s16(int16_t(code.zero_out)), vdupq_n_u8(uint8_t(code.low)),
            vdupq_n_u8(uint8_t(code.high))};
  }
};

}  // namespace

bool prepare_conv_neon(Step& step, int32_t images) {
  if (!pack_dense(step, {NEON, 4, 4, 4, 1, 128})) return false;
  split_dense(step, images * step.out.h * step.out.w, images, 60);
  step.run = run_tiles<Kernel>;
  return true;
}

bool prepare_transposed_neon(Step& step, int32_t images) {
  return prepare_transposed(step, images, prepare_conv_neon);
}

}  // namespace fxq
