#include <cstdint>

#include "lookup.h"
#include "target_vbmi.h"

namespace fxq {
namespace {

struct Table {
  __m512i part[4];
  __m512i operator()(__m512i q) const {
    const __m512i lower = _mm512_permutex2var_epi8(part[0], q, part[1]);
    const __m512i upper = _mm512_permutex2var_epi8(part[2], q, part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(q), lower, upper);
  }
};

}  // namespace

void look_up_vbmi(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes) {
  Table t;
  for (int k = 0; k < 4; ++k) t.part[k] = _mm512_loadu_si512(table + 64 * k);
  int64_t i = 0;
  for (; i + 64 <= bytes; i += 64) _mm512_storeu_si512(out + i, t(_mm512_loadu_si512(in + i)));
  if (i == bytes) return;
  const __mmask64 rest = (__mmask64(1) << (bytes - i)) - 1;
  _mm512_mask_storeu_epi8(out + i, rest, t(_mm512_maskz_loadu_epi8(rest, in + i)));
}

}  // namespace fxq

#include "target_end.h"
