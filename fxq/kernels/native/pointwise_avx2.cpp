// ADD, MULTIPLY and TABLE with AVX2.
#include <cstring>

#include "families.h"
#include "lookup.h"
#include "work.h"
#include "vectors_avx2.h"
#include "pointwise_vectors.h"

namespace fxq {

bool prepare_add_avx2(Step& s, int32_t images) { return prepare_add(s, images); }
bool prepare_multiply_avx2(Step& s, int32_t images) { return prepare_multiply(s, images); }
bool prepare_table_avx2(Step& s, int32_t images) { return prepare_table(s, images); }

}  // namespace fxq

#include "target_end.h"
