// Tables of 256 results: in registers where the processor has VBMI or NEON.
#pragma once
#include <cstdint>

namespace fxq {

using Lookup = void (*)(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes);

void look_up_plain(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes);
void look_up_vbmi(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes);
void look_up_neon(const uint8_t* table, const uint8_t* in, uint8_t* out, int64_t bytes);
Lookup best_lookup();

}  // namespace fxq
