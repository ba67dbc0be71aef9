// ENTER and LEAVE with AVX-512.
#include "families.h"
#include "measured.h"
#include "work.h"
#include "vectors_avx512.h"
#include "border_vectors.h"

namespace fxq {

bool prepare_enter_avx512(Step& s, int32_t images) { return prepare_enter(s, images); }
bool prepare_leave_avx512(Step& s, int32_t images) { return prepare_leave(s, images); }

}  // namespace fxq

#include "target_end.h"
