// Everything that a kernel relies on, checked before anything is prepared or run: a file's program
// is a stranger's. Kernels read views with their borders and SLACK, and write views; nothing else.
#include <cmath>
#include <stdexcept>
#include <string>

#include "program.h"

namespace fxq {
namespace {

// Positions inside a view fit in 31 bits, so that kernels may count in int32.
constexpr int64_t MOST = (int64_t{1} << 31) - 1 - SLACK, MOST_POSITION = 1 << 30;
constexpr int64_t MOST_MEMORY = int64_t{1} << 40;
constexpr int32_t MOST_EXTERNALS = 64;
constexpr int32_t MOST_PRODUCTS = ((int64_t{1} << 31) - 1) / (255 * 255);

void require(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

bool between(int64_t low, int64_t x, int64_t high) { return low <= x && x <= high; }
bool index_or_none(int32_t x, int32_t count) { return between(-1, x, count - 1); }
bool same_size(const View& a, const View& b) { return a.h == b.h && a.w == b.w && a.c == b.c; }

// Each stride that a view takes is below 2^40 and each count below 2^31: 128 bits hold all sums.
using Wide = __int128;

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

// A kernel's window over rows or columns: `padding` before, and what lies behind for `out` results.
struct Axis {
  int32_t in, out, kernel, stride, dilation, padding, before, behind;
  int64_t span() const { return (out - 1) * int64_t{stride} + (kernel - 1) * int64_t{dilation}; }
};

Axis rows(const Instruction& code, const View& in, const View& out) {
  return {in.h, out.h, code.kh, code.sh, code.dh, code.ph, in.top, in.bottom};
}
Axis columns(const Instruction& code, const View& in, const View& out) {
  return {in.w, out.w, code.kw, code.sw, code.dw, code.pw, in.left, in.right};
}

void check_window(const Axis& axis) {
  for (const int32_t number : {axis.kernel, axis.stride, axis.dilation})
    require(between(1, number, 1 << 20), "a kernel size, stride or dilation is not possible");
  require(between(0, axis.padding, 1 << 20), "a padding is not possible");
  require(axis.span() + axis.padding < MOST_POSITION, "a window reaches too far");
}

// True where the border is read.
bool check_border(const Axis& axis) {
  const int64_t behind = axis.span() + 1 - axis.padding - axis.in;
  require(axis.padding <= axis.before && behind <= axis.behind,
          "the input's border is smaller than the padding");
  return axis.padding > 0 || behind > 0;
}

void check_weights(const Instruction& code, const View& in, const View& out, const Layer& layer) {
  require(code.kh == layer.kh && code.kw == layer.kw && code.groups == layer.groups,
          "the kernel's size or groups are not the layer's");
  require(int64_t{layer.inputs} * layer.groups == in.c && layer.outputs == out.c,
          "the values' channels are not the layer's");
  require(code.zero_in == layer.zero_in, "the zero point is not the layer's");
  require(!!layer.transposed == (code.op == TRANSPOSED), "the layer is of the other direction");
  if (code.op == DEPTHWISE)
    require(layer.inputs == 1 && layer.groups == layer.outputs, "the layer is not depthwise");
}

struct Views {
  const View &in, &other, &out;
};

void check_convolution(const Instruction& code, const Views& v, const Layer& layer) {
  check_packed(v.in);
  check_weights(code, v.in, v.out, layer);
  const Axis down = rows(code, v.in, v.out), across = columns(code, v.in, v.out);
  check_window(down);
  check_window(across);
  if (code.op == TRANSPOSED) return;  // reads no border
  const bool above = check_border(down), beside = check_border(across);
  require(!(above || beside) || v.in.zero_point == code.zero_in,
          "the input's border holds another zero point");
}

void check_pool(const Instruction& code, const Views& v) {
  check_packed(v.in);
  require(v.in.c == v.out.c, "a pool changes the number of channels");
  check_window(rows(code, v.in, v.out));
  check_window(columns(code, v.in, v.out));
  if (code.op != AVERAGE_POOL) return;
  require(code.dh == 1 && code.dw == 1, "an average pool is dilated");
  require(int64_t{v.in.h} * v.in.w <= 1 << 23, "an average pool's sums could leave 32 bits");
}

void check_binary(const Instruction& code, const Views& v) {
  check_packed(v.in);
  check_packed(v.other);
  const View& o = v.other;
  const bool spread = code.op == MULTIPLY && o.h == 1 && o.w == 1 && o.c == v.out.c;
  require(same_size(v.in, v.out) && (spread || same_size(o, v.out)), "the values' sizes differ");
}

// Operands may be transposed: a tensor's numbers need not lie side by side.
void check_matmul(const Instruction& code, const Views& v) {
  require(code.table < 0, "a table behind a matrix product");
  require(v.in.element == 1 && v.other.element == 1, "floats where bytes are due");
  require(v.in.h == v.out.h && v.other.h == v.out.h && v.in.c == v.other.c && v.in.w == v.out.w &&
              v.other.w == v.out.c,
          "the matrices' sizes differ");
  require(v.in.c <= MOST_PRODUCTS, "a matrix product's sums could leave 32 bits");
  require(v.out.channel == v.out.element, "a tensor's channels do not lie side by side");
}

void check_move(const Instruction& code, const Views& v) {
  check_packed(v.in);
  if (code.op == FLATTEN)
    return require(v.out.h == 1 && v.out.w == 1 && int64_t{v.in.h} * v.in.w * v.in.c == v.out.c,
                   "a flattened value has another size");
  require(v.in.c == v.out.c, "the values' channels differ");
  if (code.op == NEAREST) return require(v.in.h < 1 << 24 && v.in.w < 1 << 24, "too large");
  require(same_size(v.in, v.out), "the values' sizes differ");
  if (code.op == SHUFFLE)
    require(code.groups > 0 && v.in.c % code.groups == 0, "groups do not divide the channels");
}

void check_edge(const Instruction& code, const Views& v) {
  require(same_size(v.in, v.out), "the values' sizes differ");
  if (code.op == LEAVE) check_packed(v.in);
}

// Numbers of four bytes, side by side.
void check_wide(const View& v) {
  require(v.element == 4, "bytes where floats or sums are due");
  require(v.channel == 4, "a tensor's channels do not lie side by side");
}

// What RANGE writes, and steps with MEASURED read.
void check_pairs(const View& v) {
  check_wide(v);
  require(v.h == 1 && v.w == 1 && v.c % 2 == 0, "a range is no row of pairs");
}

void check_measured(const Instruction& code, const Views& v) {
  require(code.low < code.high, "low and high leave no step for a range");
  check_pairs(v.other);
}

void check_range(const Views& v) {
  require(v.in.element == 4, "bytes where floats are due");
  check_pairs(v.out);
}

void check_rescale(const Views& v, const Layer& layer) {
  check_wide(v.in);
  check_wide(v.out);
  require(same_size(v.in, v.out), "the values' sizes differ");
  require(layer.outputs == v.out.c && layer.zero_in == 0 && !layer.transposed,
          "the layer is none of these sums");
}

void check_operands(const Instruction& code, const Views& v, const Layer* layer) {
  if (code.flags & MEASURED) check_measured(code, v);
  if (code.op == RANGE) return check_range(v);
  if (code.op == RESCALE) return check_rescale(v, *layer);
  const bool floats = code.op == LEAVE || code.flags & (FLOAT_OUT | SUMS_OUT);
  if (floats) require(v.out.element == 4, "bytes where floats are due");
  else check_packed(v.out);
  switch (code.op) {
    case ENTER: case LEAVE: return check_edge(code, v);
    case CONV: case DEPTHWISE: case TRANSPOSED: return check_convolution(code, v, *layer);
    case ADD: case MULTIPLY: return check_binary(code, v);
    case MAX_POOL: case AVERAGE_POOL: return check_pool(code, v);
    case MATMUL: return check_matmul(code, v);
    default: return check_move(code, v);
  }
}

bool is_convolution(int32_t op) { return op == CONV || op == DEPTHWISE || op == TRANSPOSED; }

void check_numbers(const Instruction& code) {
  for (const int32_t zero : {code.zero_in, code.zero_other, code.zero_out})
    require(between(0, zero, 255), "a zero point is no byte");
  require(0 <= code.low && code.low <= code.high && code.high <= 255, "low and high are no range");
  require(std::isfinite(code.m0) && std::isfinite(code.m1), "a multiplier is not finite");
}

void check_variant(const Instruction& code) {
  require(code.variant >= 0 && kernel_of(code) <= AMX + 1 && split_of(code) <= ACROSS &&
              panel_of(code) <= 1,
          "unknown variant");
}

void check_flags(const Instruction& code) {
  require(between(0, code.flags, 2 * SUMS_OUT - 1), "unknown flags");
  if (code.flags & RESIDUAL) require(is_convolution(code.op), "a residual without weights");
  if (code.flags & INCLUDE_PAD) require(code.op == AVERAGE_POOL, "padding counts in averages only");
  if (code.flags & ADAPTIVE) require(code.op == AVERAGE_POOL, "only averages are adaptive");
  if (code.flags & MEASURED)
    require(code.op == ENTER || code.op == RESCALE, "the operator takes no range");
  if (code.flags & SUMS_OUT) {
    require(code.op == CONV && !(code.flags & (FLOAT_OUT | RESIDUAL)), "sums leave convolutions only");
    require(code.table < 0, "a table of bytes for sums");
  }
  if (!(code.flags & FLOAT_OUT)) return;
  require(code.op == CONV || code.op == TRANSPOSED || code.op == AVERAGE_POOL || code.op == MATMUL,
          "floats leave convolutions, averages and products only");
  require(code.table < 0, "a table of bytes for floats");
}

void check_indices(const Instruction& code, const Source& source) {
  require(between(ENTER, code.op, MATMUL), "unknown operator");
  check_flags(code);
  check_variant(code);
  require(code.op != RESCALE || code.flags & MEASURED, "sums without the range of their input");
  const bool binary =
      code.op == ADD || code.op == MULTIPLY || code.op == MATMUL ||
      code.flags & (RESIDUAL | MEASURED);
  require(between(0, code.in, source.view_count - 1) && between(0, code.out, source.view_count - 1),
          "an input or output is no view");
  require(between(binary ? 0 : -1, code.other, binary ? source.view_count - 1 : -1),
          "the second input is no view, or is none of this operator");
  require(index_or_none(code.table, source.table_count), "unknown table");
  const bool weighted = is_convolution(code.op) || code.op == RESCALE;
  require(between(weighted ? 0 : -1, code.layer, weighted ? source.layer_count - 1 : -1),
          "the layer is unknown, or is none of this operator");
  require(!weighted || source.layers[code.layer], "a layer is missing");
}

// Elementwise steps may work in place: they read a number before they write it.
void check_places(const Instruction& code, const Views& v, const Source& source) {
  const auto check = [&](const View& input, bool in_place) {
    const int32_t images = input.space == LANE ? 1 : source.images;
    require(!overlap(input, v.out, images) || (in_place && same_place(input, v.out)),
            "the output lies where an input is");
  };
  const bool binary = code.op == ADD || code.op == MULTIPLY;
  check(v.in, binary || code.op == TABLE || code.op == RESCALE);
  if (code.other >= 0) check(v.other, !(code.flags & MEASURED) && same_size(v.other, v.out));
}

void check_step(const Instruction& code, const Source& source) {
  check_indices(code, source);
  check_numbers(code);
  static const View none{};
  const Views v{source.views[code.in], code.other < 0 ? none : source.views[code.other],
                source.views[code.out]};
  if (code.flags & WIDE_STEP)
    require(v.in.space != LANE && v.out.space != LANE && (code.other < 0 || v.other.space != LANE),
            "a step of all images uses the memory of one");
  check_operands(code, v, code.layer < 0 ? nullptr : &source.layers[code.layer]->layer);
  if (code.flags & RESIDUAL) {
    check_packed(v.other);
    require(same_size(v.other, v.out), "the residual has another size");
  }
  check_places(code, v, source);
}

template <class Body>
std::string each(const char* what, int32_t count, Body body) {
  for (int32_t i = 0; i < count; ++i) try {
      body(i);
    } catch (const std::invalid_argument& wrong) {
      return what + (" " + std::to_string(i)) + ": " + wrong.what();
    }
  return "";
}

bool sizes_are_possible(const Source& s) {
  for (const int32_t count : {s.instructions, s.view_count, s.layer_count, s.table_count})
    if (!between(0, count, 1 << 20)) return false;
  return between(1, s.images, 1 << 20) && between(0, s.lane_bytes, MOST_MEMORY) &&
         between(0, s.wide_bytes, MOST_MEMORY / s.images);
}

}  // namespace

Extent extent_of(const View& view, int32_t images) {
  return {static_cast<int64_t>(first_byte(view)),
          static_cast<int64_t>(last_byte(view) + (Wide{images} - 1) * view.image)};
}

std::string check_layer(const Layer& layer) {
  for (const int32_t size : {layer.outputs, layer.inputs, layer.groups, layer.kh, layer.kw})
    if (!between(1, size, MOST_POSITION)) return "a size of the layer is not possible";
  if (layer.outputs % layer.groups) return "the groups do not divide the outputs";
  if (Wide{layer.inputs} * layer.groups > MOST_POSITION) return "the layer has too many inputs";
  if (Wide{layer.outputs} * layer.inputs > MOST_POSITION ||
      Wide{layer.outputs} * layer.inputs * layer.kh * layer.kw > MOST)
    return "the layer has too many weights";
  if (!between(0, layer.zero_in, 255)) return "the layer's zero point is no byte";
  if (!layer.weight || !layer.bias || !layer.multiplier) return "a part of the layer is missing";
  for (int32_t o = 0; o < layer.outputs; ++o)
    if (!std::isfinite(layer.multiplier[o])) return "a multiplier of the layer is not finite";
  return "";
}

std::string check_program(const Source& source) {
  if (!sizes_are_possible(source)) return "the program's sizes are not possible";
  std::string wrong = each("view", source.view_count,
                           [&](int32_t i) { check_view(source.views[i], source); });
  if (!wrong.empty()) return wrong;
  return each("step", source.instructions, [&](int32_t i) { check_step(source.code[i], source); });
}

}  // namespace fxq
