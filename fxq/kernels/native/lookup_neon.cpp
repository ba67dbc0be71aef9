// Tables in 16 registers: tbl gives 0, and tbx what was there, where an index is beyond 64 bytes.
#include <arm_neon.h>

#include "lookup.h"

namespace fxq {
namespace {

struct Table {
  uint8x16x4_t part[4];
  uint8x16_t operator()(uint8x16_t q) const {
    uint8x16_t result = vqtbl4q_u8(part[0], q);
    for (int k = 1; k < 4; ++k)
      result = vqtbx4q_u8(result, part[k], vsubq_u8(q, vdupq_n_u8(uint8_t(64 * k))));
    return result;
  }
};

}  // namespace

void look_up_neon(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes) {
  if (bytes < 16) return look_up_plain(table, in, out, bytes);
  Table t;
  for (int k = 0; k < 4; ++k) t.part[k] = vld1q_u8_x4(table + 64 * k);
  int64_t i = 0;
  for (; i + 16 <= bytes; i += 16) vst1q_u8(out + i, t(vld1q_u8(in + i)));
  look_up_plain(table, in + i, out + i, bytes - i);
}

}  // namespace fxq
