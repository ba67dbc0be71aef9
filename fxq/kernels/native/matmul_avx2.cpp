// MATMUL with AVX2.
#include <cstring>
#include <type_traits>

#include "families.h"
#include "work.h"
#include "vectors_avx2.h"
#include "matmul_vectors.h"

namespace fxq {

bool prepare_matmul_avx2(Step& s, int32_t images) { return prepare_matmul(s, images, 30); }

}  // namespace fxq

#include "target_end.h"
