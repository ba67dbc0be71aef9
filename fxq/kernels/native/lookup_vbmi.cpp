#if defined(__x86_64__)
#include <cstdint>

#include "lookup.h"
#include "target_vbmi.h"

namespace fxq {

void look_up_vbmi(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes) {
  __m512i part[4];
  for (int k = 0; k < 4; ++k) part[k] = _mm512_loadu_si512(table + 64 * k);
  for (int64_t i = 0; i < bytes; i += 64) {
    const __mmask64 here = bytes - i < 64 ? (__mmask64(1) << (bytes - i)) - 1 : ~__mmask64(0);
    const __m512i q = _mm512_maskz_loadu_epi8(here, in + i);
    const __m512i lower = _mm512_permutex2var_epi8(part[0], q, part[1]);
    const __m512i upper = _mm512_permutex2var_epi8(part[2], q, part[3]);
    const __mmask64 is_upper = _mm512_movepi8_mask(q);
    _mm512_mask_storeu_epi8(out + i, here, _mm512_mask_blend_epi8(is_upper, lower, upper));
  }
}

}  // namespace fxq

#include "target_end.h"
#endif
