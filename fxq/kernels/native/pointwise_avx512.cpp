// ADD, MULTIPLY and TABLE with AVX-512.
#include <cstring>

#include "families.h"
#include "lookup.h"
#include "work.h"
#include "vectors_avx512.h"
#include "pointwise_vectors.h"

namespace fxq {

bool prepare_add_avx512(Step& s, int32_t images) { return prepare_add(s, images); }
bool prepare_multiply_avx512(Step& s, int32_t images) { return prepare_multiply(s, images); }
bool prepare_table_avx512(Step& s, int32_t images) { return prepare_table(s, images); }

}  // namespace fxq

#include "target_end.h"
