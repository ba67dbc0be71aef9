// MAX_POOL and AVERAGE_POOL. Windows are clipped to the image: a stored border does not count.
#include <cstring>

#include "families.h"
#include "rounding.h"
#include "window.h"
#include "work.h"

namespace fxq {
namespace {

void max_pool(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  for_units(s, o, chunk, [&](const Operands& image, int32_t oy) {
    const Window rows = window_y(s, oy);
    for (int32_t ox = 0; ox < s.out.w; ++ox) {
      const Window columns = window_x(s, ox);
      uint8_t* out = pixel(s.out, image.out, oy, ox);
      for (int32_t c = 0; c < s.out.c; ++c) {
        uint8_t q = 0;
        for (int32_t y = rows.begin; y < rows.end; y += s.code.dh)
          for (int32_t x = columns.begin; x < columns.end; x += s.code.dw)
            q = uint8_t(most(q, pixel(s.in, image.in, y, x)[c]));
        out[c] = s.table ? s.table[q] : q;
      }
    }
  });
}

void average_pool(const Step& s, const Operands& o, int32_t chunk, uint8_t*) {
  for_units(s, o, chunk, [&](const Operands& image, int32_t oy) {
    const Window rows = window_y(s, oy);
    for (int32_t ox = 0; ox < s.out.w; ++ox) {
      const Window columns = window_x(s, ox);
      const float count = float(divisor(s, rows, columns));
      uint8_t* out = pixel(s.out, image.out, oy, ox);
      for (int32_t c = 0; c < s.out.c; ++c) {
        int32_t sum = 0;
        for (int32_t y = rows.begin; y < rows.end; ++y)
          for (int32_t x = columns.begin; x < columns.end; ++x)
            sum += pixel(s.in, image.in, y, x)[c] - s.code.zero_in;
        const float mean = float(sum) / count, v = mean * s.code.m0;
        if (s.code.flags & FLOAT_OUT)
          std::memcpy(out + c * s.out.channel, &v, sizeof v);
        else
          out[c] = finish(v, s);
      }
    }
  });
}

double row_cost(const Step& s) { return 0.5 * s.out.w * s.out.c * s.code.kh * s.code.kw; }

}  // namespace

bool prepare_max_pool_plain(Step& s, int32_t images) {
  s.run = max_pool;
  cut(s, images, s.out.h, row_cost(s));
  return true;
}

bool prepare_average_pool_plain(Step& s, int32_t images) {
  s.run = average_pool;
  cut(s, images, s.out.h, row_cost(s));
  return true;
}

}  // namespace fxq
