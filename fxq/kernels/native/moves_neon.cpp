// SHUFFLE with NEON.
#include "families.h"
#include "work.h"
#include "vectors_neon.h"
#include "moves_vectors.h"

namespace fxq {

bool prepare_shuffle_neon(Step& s, int32_t images) { return prepare_shuffle(s, images); }

}  // namespace fxq
