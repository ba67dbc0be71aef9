// Views lie in their memory, borders and all.
#include "check.h"

namespace fxq {
namespace {

Wide last_byte(const View& v) {
  return Wide{v.offset} + (Wide{v.h} - 1 + v.bottom) * v.row + (Wide{v.w} - 1 + v.right) * v.pixel +
         (Wide{v.c} - 1) * v.channel + v.element;
}

Wide first_byte(const View& v) {
  return Wide{v.offset} - Wide{v.top} * v.row - Wide{v.left} * v.pixel;
}

void check_strides(const View& v) {
  for (const int64_t stride : {v.offset, v.image, v.row, v.pixel, v.channel})
    require(between(0, stride, MOST_MEMORY) && stride % v.element == 0,
            "a view's offset or stride is negative, too large, or cuts numbers apart");
  for (const int32_t border : {v.top, v.left, v.bottom, v.right})
    require(between(0, border, v.element == 1 ? 1 << 20 : 0), "a view's border is not possible");
  const Wide wide = Wide{v.left} + v.w + v.right;
  require(!(v.top | v.left | v.bottom | v.right) || v.row == wide * v.pixel,
          "a view's border does not lie between its rows");
  if (v.space >= EXTERNAL) return;
  require(v.channel == v.element && Wide{v.pixel} >= Wide{v.c} * v.channel &&
              Wide{v.row} >= Wide{v.w} * v.pixel,
          "a view's pixels or rows overlap");
}

}  // namespace

void check_view(const View& v, const Source& source) {
  require(between(LANE, v.space, EXTERNAL + MOST_EXTERNALS - 1), "a view lies in no memory");
  require(v.element == 1 || v.element == 4, "a view's numbers are neither bytes nor floats");
  require(between(0, v.zero_point, 255), "a view's zero point is no byte");
  for (const int32_t size : {v.h, v.w, v.c})
    require(between(1, size, MOST_POSITION), "a view is empty or too large");
  check_strides(v);
  require(last_byte(v) - first_byte(v) <= MOST, "an image of a view has more than 2 GiB");
  const int64_t pixels = int64_t{v.h} * v.w, most = pixels > v.c ? pixels : v.c;
  require(most * source.images <= MOST_POSITION, "a view has too many numbers");
  const Extent extent = extent_of(v, v.space == LANE ? 1 : source.images);
  require(extent.low >= 0, "a view begins before its memory");
  if (v.space == LANE) require(extent.high <= source.lane_bytes, "a view ends behind the lane");
  if (v.space == WIDE)
    require(extent.high <= source.wide_bytes * source.images, "a view ends behind the wide memory");
}

// As kernels want it: channels side by side. Tensors of the caller need not be.
void check_packed(const View& v) {
  require(v.element == 1, "floats where bytes are due");
  require(v.channel == 1 && v.pixel >= v.c && v.row >= v.w * v.pixel,
          "a tensor's channels do not lie side by side");
}

Extent extent_of(const View& view, int32_t images) {
  return {static_cast<int64_t>(first_byte(view)),
          static_cast<int64_t>(last_byte(view) + (Wide{images} - 1) * view.image)};
}

}  // namespace fxq
