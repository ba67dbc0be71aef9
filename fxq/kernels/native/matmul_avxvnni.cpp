// MATMUL with AVX-VNNI.
#include <cstring>
#include <type_traits>

#include "families.h"
#include "work.h"
#include "vectors_avxvnni.h"
#include "matmul_vectors.h"

namespace fxq {

bool prepare_matmul_avxvnni(Step& s, int32_t images) { return prepare_matmul(s, images, 80); }

}  // namespace fxq

#include "target_end.h"
