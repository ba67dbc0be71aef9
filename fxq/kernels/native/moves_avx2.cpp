// SHUFFLE with AVX2.
#include <cstring>

#include "families.h"
#include "work.h"
#include "vectors_avx2.h"
#include "moves_vectors.h"

namespace fxq {

bool prepare_shuffle_avx2(Step& s, int32_t images) { return prepare_shuffle(s, images); }

}  // namespace fxq

#include "target_end.h"
