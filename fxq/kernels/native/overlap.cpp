// Whether a step could read what it writes.
#include "program.h"

namespace fxq {
namespace {

bool apart(const Extent& a, const Extent& b) { return a.high <= b.low || b.high <= a.low; }

// Channels of one tensor, as concatenation and split have them: same rows and pixels, and channel
// ranges that do not meet in any pixel.
bool slices_apart(const View& a, const View& b, int32_t images) {
  if (a.row != b.row || a.pixel != b.pixel || a.channel != 1 || b.channel != 1) return false;
  if (a.pixel == 0 || a.row % a.pixel) return false;
  if (images > 1 && (a.image % a.pixel || a.image != b.image)) return false;
  const int64_t ahead = ((b.offset - a.offset) % a.pixel + a.pixel) % a.pixel;
  return ahead >= a.c && ahead + b.c <= a.pixel;
}

// Images of both lie at the same distance, each image's part within that distance, and the parts of
// one image do not meet.
bool images_apart(const View& a, const View& b) {
  const Extent x = extent_of(a, 1), y = extent_of(b, 1);
  if (a.image != b.image || a.image == 0) return false;
  const int64_t low = x.low < y.low ? x.low : y.low, high = x.high > y.high ? x.high : y.high;
  return high - low <= a.image && (apart(x, y) || slices_apart(a, b, 1));
}

}  // namespace

bool overlap(const View& a, const View& b, int32_t images) {
  if (a.space != b.space || apart(extent_of(a, images), extent_of(b, images))) return false;
  return !slices_apart(a, b, images) && !images_apart(a, b);
}

bool same_place(const View& a, const View& b) {
  return a.space == b.space && a.offset == b.offset && a.image == b.image && a.row == b.row &&
         a.pixel == b.pixel && a.channel == b.channel && a.element == b.element;
}

}  // namespace fxq
