// The views of a step fit its operator.
#include "check.h"

namespace fxq {
namespace {

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

}  // namespace

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

}  // namespace fxq
