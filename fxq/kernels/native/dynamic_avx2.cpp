// RANGE and RESCALE with AVX2.
#if defined(__x86_64__)
#include "families.h"
#include "measured.h"
#include "weights.h"
#include "work.h"
#include "vectors_avx2.h"
#include "dynamic_vectors.h"

namespace fxq {

bool prepare_range_avx2(Step& s, int32_t) { return prepare_range(s); }
bool prepare_rescale_avx2(Step& s, int32_t images) { return prepare_rescale(s, images); }

}  // namespace fxq

#include "target_end.h"
#endif
