// The instruction sets of this machine.
#pragma once
#include "step.h"

namespace fxq {

bool has_isa(int32_t isa);  // not a ladder: AVX-512 VNNI comes without AVX-VNNI on many processors
int32_t best_isa();         // lowered by FXQ_NATIVE_ISA; -1 where that names none
const char* isa_name(int32_t isa);

}  // namespace fxq
