// DEPTHWISE with AVX2.
#include <cstring>

#include "depthwise_shape.h"
#include "families.h"
#include "lookup.h"
#include "vectors_avx2.h"
#include "depthwise_vectors.h"

namespace fxq {

bool prepare_depthwise_avx2(Step& s, int32_t images) { return prepare_depthwise(s, images); }

}  // namespace fxq

#include "target_end.h"
