// MAX_POOL and AVERAGE_POOL with AVX2.
#include <cstring>

#include "families.h"
#include "lookup.h"
#include "window.h"
#include "work.h"
#include "vectors_avx2.h"
#include "pools_vectors.h"

namespace fxq {

bool prepare_max_pool_avx2(Step& s, int32_t images) { return prepare_max_pool(s, images); }
bool prepare_average_pool_avx2(Step& s, int32_t images) { return prepare_average_pool(s, images); }

}  // namespace fxq

#include "target_end.h"
