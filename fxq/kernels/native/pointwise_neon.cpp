// ADD, MULTIPLY and TABLE with NEON.
#include "families.h"
#include "lookup.h"
#include "work.h"
#include "vectors_neon.h"
#include "pointwise_vectors.h"

namespace fxq {

bool prepare_add_neon(Step& s, int32_t images) { return prepare_add(s, images); }
bool prepare_multiply_neon(Step& s, int32_t images) { return prepare_multiply(s, images); }
bool prepare_table_neon(Step& s, int32_t images) { return prepare_table(s, images); }

}  // namespace fxq
