// MAX_POOL and AVERAGE_POOL with NEON.
#include "families.h"
#include "lookup.h"
#include "window.h"
#include "work.h"
#include "vectors_neon.h"
#include "pools_vectors.h"

namespace fxq {

bool prepare_max_pool_neon(Step& s, int32_t images) { return prepare_max_pool(s, images); }
bool prepare_average_pool_neon(Step& s, int32_t images) { return prepare_average_pool(s, images); }

}  // namespace fxq
