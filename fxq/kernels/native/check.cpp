// Everything that a kernel relies on, checked before anything is prepared or run: a file's program
// is a stranger's. Kernels read views with their borders and SLACK, and write views; nothing else.
#include "check.h"

#include <cmath>

namespace fxq {
namespace {

bool index_or_none(int32_t x, int32_t count) { return between(-1, x, count - 1); }

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
  require(between(0, code.flags, 2 * CHANNEL_TABLES - 1), "unknown flags");
  if (code.flags & RESIDUAL) require(is_convolution(code.op), "a residual without weights");
  if (code.flags & INCLUDE_PAD) require(code.op == AVERAGE_POOL, "padding counts in averages only");
  if (code.flags & ADAPTIVE) require(code.op == AVERAGE_POOL, "only averages are adaptive");
  if (code.flags & CHANNEL_TABLES)
    require(code.op == ENTER && !(code.flags & MEASURED) && code.table >= 0,
            "only bytes that enter have a table for each channel");
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
  if (code.flags & CHANNEL_TABLES)
    require(v.in.element == 1 && v.in.c <= source.table_count - code.table,
            "there are fewer tables than channels");
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

std::string check_program(const Source& source) {
  if (!sizes_are_possible(source)) return "the program's sizes are not possible";
  std::string wrong = each("view", source.view_count,
                           [&](int32_t i) { check_view(source.views[i], source); });
  if (!wrong.empty()) return wrong;
  Order order(source);
  return each("step", source.instructions, [&](int32_t i) {
    check_step(source.code[i], source);
    order.follow(source.code[i]);
  });
}

}  // namespace fxq
