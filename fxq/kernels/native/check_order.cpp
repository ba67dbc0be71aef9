// No step reads what the program has not written: memory holds the numbers of earlier calls.
//
// What is written stays so, whatever is written over it, but for the memory of an image behind a step
// of all images: another image may have used it. Pixels whose channels are written one part after the
// other become a run of bytes when the last part is there.
#include <algorithm>

#include "check.h"

namespace fxq {
namespace {

struct Region {
  int64_t first, pixel, pixels, bytes;  // `bytes` of each pixel
};

// A view with its border, as pixels at one distance.
Region region_of(const View& v) {
  const int64_t wide = int64_t{v.left} + v.w + v.right, high = int64_t{v.top} + v.h + v.bottom;
  require(high == 1 || v.row == wide * v.pixel, "a view's rows do not follow each other");
  const int64_t pixels = high * wide, bytes = int64_t{v.c} * v.element;
  const int64_t first = v.offset - v.top * v.row - v.left * v.pixel;
  if (pixels > 1 && bytes < v.pixel) return {first, v.pixel, pixels, bytes};
  return {first, 0, 0, pixels == 1 ? bytes : pixels * bytes};
}

std::array<int64_t, 10> place_of(const View& v) {
  return {v.space, v.offset, v.image, v.row, v.pixel, v.channel, v.element, v.h, v.w, v.c};
}

}  // namespace

// Joined with the parts that it meets.
void Written::add(Part part, int64_t bytes) {
  auto& [pixel, pixels, first] = part;
  auto next = parts_.upper_bound(part);
  if (next != parts_.begin()) {
    const auto before = std::prev(next);
    const auto& [p, n, start] = before->first;
    if (p == pixel && n == pixels && start + before->second >= first) {
      bytes = std::max(before->second, first + bytes - start), first = start;
      next = parts_.erase(before);
    }
  }
  while (next != parts_.end()) {
    const auto& [p, n, start] = next->first;
    if (p != pixel || n != pixels || start > first + bytes) break;
    bytes = std::max(bytes, start + next->second - first);
    next = parts_.erase(next);
  }
  if (pixel && bytes >= pixel) return add({0, 0, first}, (pixels - 1) * pixel + bytes);
  parts_[part] = bytes;
}

bool Written::has(const Part& part, int64_t bytes) const {
  auto after = parts_.upper_bound(part);
  if (after == parts_.begin()) return false;
  const auto& [found, length] = *std::prev(after);
  const auto& [pixel, pixels, first] = part;
  const auto& [p, n, start] = found;
  return p == pixel && n == pixels && first + bytes <= start + length;
}

void Written::write(const View& view) {
  const Region r = region_of(view);
  add({r.pixel, r.pixels, r.first}, r.bytes);
}

bool Written::holds(const View& view) const {
  const Region r = region_of(view);
  const int64_t all = r.pixel ? (r.pixels - 1) * r.pixel + r.bytes : r.bytes;
  return has({0, 0, r.first}, all) || (r.pixel && has({r.pixel, r.pixels, r.first}, r.bytes));
}

Order::Order(const Source& source) : source_(source), is_output_(MOST_EXTERNALS) {
  for (int32_t i = 0; i < source.instructions; ++i) {
    const int32_t out = source.code[i].out;
    if (!between(0, out, source.view_count - 1)) continue;
    const int32_t space = source.views[out].space;
    if (space >= EXTERNAL) is_output_[space - EXTERNAL] = true;
  }
}

void Order::check_read(const View& view) const {
  if (view.space >= EXTERNAL) {
    require(!is_output_[view.space - EXTERNAL] || outputs_.count(place_of(view)),
            "it reads an output before it is written");
    return;
  }
  require((view.space == LANE ? lane_ : wide_).holds(view),
          "it reads memory that the program has not written");
}

void Order::follow(const Instruction& code) {
  const View& out = source_.views[code.out];
  if (code.flags & WIDE_STEP) lane_.clear();
  check_read(source_.views[code.in]);
  if (code.other >= 0) check_read(source_.views[code.other]);
  for (const int32_t index : {code.in, code.other, code.out}) {
    if (index < 0 || source_.views[index].space != WIDE || source_.images == 1) continue;
    require(source_.views[index].image == source_.wide_bytes, "an image's memory is not its own");
  }
  if (out.space >= EXTERNAL)
    outputs_.insert(place_of(out));
  else
    (out.space == LANE ? lane_ : wide_).write(out);
}

}  // namespace fxq
