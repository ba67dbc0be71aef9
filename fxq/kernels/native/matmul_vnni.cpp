// MATMUL with AVX-512 VNNI.
#include <cstring>
#include <type_traits>

#include "families.h"
#include "work.h"
#include "vectors_avx512.h"
#include "matmul_vectors.h"

namespace fxq {

bool prepare_matmul_vnni(Step& s, int32_t images) { return prepare_matmul(s, images, 180); }

}  // namespace fxq

#include "target_end.h"
