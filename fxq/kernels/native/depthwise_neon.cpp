// DEPTHWISE with NEON.
#include "depthwise_shape.h"
#include "families.h"
#include "lookup.h"
#include "vectors_neon.h"
#include "depthwise_vectors.h"

namespace fxq {

bool prepare_depthwise_neon(Step& s, int32_t images) { return prepare_depthwise(s, images); }

}  // namespace fxq
