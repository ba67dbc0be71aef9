// SHUFFLE with AVX-512.
#include <cstring>

#include "families.h"
#include "work.h"
#include "vectors_avx512.h"
#include "moves_vectors.h"

namespace fxq {

bool prepare_shuffle_avx512(Step& s, int32_t images) { return prepare_shuffle(s, images); }

}  // namespace fxq

#include "target_end.h"
