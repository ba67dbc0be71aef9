// DEPTHWISE with AVX-512 VNNI.
#include "depthwise_shape.h"
#include "families.h"
#include "lookup.h"
#include "vectors_avx512.h"
#include "depthwise_vectors.h"

namespace fxq {

bool prepare_depthwise_vnni(Step& s, int32_t images) { return prepare_depthwise(s, images); }

}  // namespace fxq

#include "target_end.h"
