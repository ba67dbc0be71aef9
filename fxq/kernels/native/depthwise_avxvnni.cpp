// DEPTHWISE with AVX-VNNI.
#include <cstring>

#include "depthwise_shape.h"
#include "families.h"
#include "lookup.h"
#include "vectors_avxvnni.h"
#include "depthwise_vectors.h"

namespace fxq {

bool prepare_depthwise_avxvnni(Step& s, int32_t images) { return prepare_depthwise(s, images); }

}  // namespace fxq

#include "target_end.h"
