// MATMUL with NEON.
#include <cstring>
#include <type_traits>

#include "families.h"
#include "work.h"
#include "vectors_neon.h"
#include "matmul_vectors.h"

namespace fxq {

bool prepare_matmul_neon(Step& s, int32_t images) { return prepare_matmul(s, images, 40); }

}  // namespace fxq
