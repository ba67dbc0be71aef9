// The most multiply-accumulates of u8 x s8 that this processor does: the instructions of the dense
// kernels on registers alone, with sums enough to hide their latency.
#include "api.h"
#include "isa.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "amx_tiles.h"
#endif

namespace {

#if defined(__x86_64__)
constexpr int SUMS = 12;
// Nothing that is computed from `value` can be known, shared or left out.
#define UNKNOWN(value) asm volatile("" : "+v"(value))

__attribute__((target("avx2"))) int64_t avx2(int64_t rounds) {
  __m256i sums[4] = {}, a = _mm256_setzero_si256(), w = a;
  for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 4
    for (__m256i& sum : sums) {
      UNKNOWN(a);
      UNKNOWN(w);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, w));
    }
  for (__m256i& sum : sums) UNKNOWN(sum);
  return rounds * 4 * 16;
}

__attribute__((target("avx2,avxvnni"))) int64_t avxvnni(int64_t rounds) {
  __m256i sums[SUMS] = {}, a = _mm256_setzero_si256();
  for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 12
    for (__m256i& sum : sums) sum = _mm256_dpbusd_avx_epi32(sum, a, a);
  for (__m256i& sum : sums) UNKNOWN(sum);
  return rounds * SUMS * 32;
}

__attribute__((target("avx512f,avx512vnni"))) int64_t vnni(int64_t rounds) {
  __m512i sums[SUMS] = {}, a = _mm512_setzero_si512();
  for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 12
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, a);
  for (__m512i& sum : sums) UNKNOWN(sum);
  return rounds * SUMS * 64;
}

__attribute__((target("amx-tile,amx-int8"))) int64_t amx(int64_t rounds) {
  fxq::configure_tiles(16);
  for (int64_t i = 0; i < rounds; i++) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 64;
}

constexpr int64_t (*LOOPS[fxq::AMX + 1])(int64_t) = {nullptr, nullptr, avx2, avxvnni, vnni, amx};
#endif

}  // namespace

extern "C" __attribute__((visibility("default"))) int64_t fxq_peak(int32_t isa, int64_t rounds) {
#if defined(__x86_64__)
  if (isa > fxq::PLAIN && fxq::has_isa(isa)) return LOOPS[isa](rounds);
#endif
  return 0;
}
