#include "work.h"

namespace fxq {

double chunk_size(const Step& step) {
  switch (split_of(step.code)) {
    case WHOLE: return 1e9;
    case HALF: return 2;
    case DOUBLE: return 0.5;
    default: return 1;
  }
}

void cut(Step& step, int32_t images, int32_t units, double nanoseconds_a_unit) {
  const int64_t all = int64_t(units) * (images > 0 ? images : 1);
  int64_t per = nanoseconds_a_unit >= 1 ? int64_t(3000 / nanoseconds_a_unit) + 1 : 3000;
  per = int64_t(per * chunk_size(step));
  per = per < 1 ? 1 : per < all ? per : all;
  step.numbers = {units, int32_t(per)};
  step.chunks = int32_t((all + per - 1) / per);
}

void add_number(Step& step, int32_t number) { step.numbers.push_back(number); }

}  // namespace fxq
