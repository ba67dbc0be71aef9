// ENTER and LEAVE with NEON.
#include "families.h"
#include "measured.h"
#include "work.h"
#include "vectors_neon.h"
#include "border_vectors.h"

namespace fxq {

bool prepare_enter_neon(Step& s, int32_t images) { return prepare_enter(s, images); }
bool prepare_leave_neon(Step& s, int32_t images) { return prepare_leave(s, images); }

}  // namespace fxq
