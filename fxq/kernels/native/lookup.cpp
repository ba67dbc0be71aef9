#include "lookup.h"

#include "isa.h"

namespace fxq {

void look_up_plain(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes) {
  for (int64_t i = 0; i < bytes; ++i) out[i] = table[in[i]];
}

Lookup best_lookup() {
#if defined(__x86_64__)
  if (has_vbmi()) return look_up_vbmi;
#elif defined(__aarch64__)
  if (has_isa(NEON)) return look_up_neon;
#endif
  return look_up_plain;
}

}  // namespace fxq
