// A checked program is prepared for an instruction set once; see run.cpp for what follows.
#include "program.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace fxq {
namespace {

const char* const OPS[] = {"enter", "leave", "conv", "depthwise", "add", "multiply", "table",
                           "max_pool", "average_pool", "shuffle", "nearest", "flatten",
                           "transposed", "range", "rescale"};

const Family* family_of(int32_t op) {
  for (int32_t f = 0; f < FAMILY_COUNT; ++f)
    if (FAMILIES[f].op == op) return &FAMILIES[f];
  return nullptr;
}

Step step_of(const Instruction& code, const Source& source, const uint8_t* tables) {
  const auto view = [&](int32_t index) { return index < 0 ? View{} : source.views[index]; };
  Step step{};
  step.code = code;
  step.in = view(code.in);
  step.other = view(code.other);
  step.out = view(code.out);
  step.weights = code.layer < 0 ? nullptr : source.layers[code.layer];
  step.table = code.table < 0 ? nullptr : tables + 256 * int64_t{code.table};
  return step;
}

// The highest instruction set that has a kernel for the step.
int32_t prepare(Step& step, int32_t highest, int32_t images) {
  const Family* family = family_of(step.code.op);
  for (int32_t isa = highest; family && isa >= PLAIN; --isa)
    if (has_isa(isa) && family->prepare[isa] && family->prepare[isa](step, images) &&
        step.chunks > 0)
      return isa;
  throw std::runtime_error(std::string("no kernel computes ") + OPS[step.code.op]);
}

void require(const View& view, int32_t images, bool slack, Program& program) {
  if (view.space < EXTERNAL) return;
  const size_t k = view.space - EXTERNAL;
  if (program.needed.size() <= k) {
    program.needed.resize(k + 1);
    program.floats.resize(k + 1);
  }
  const int64_t end = extent_of(view, images).high + (slack ? SLACK : 0);
  program.needed[k] = std::max(program.needed[k], end);
  if (view.element == 4) program.floats[k] = true;
}

}  // namespace

Program::Program(const Source& source, int32_t isa)
    : tables(256 * int64_t{source.table_count}),
      lane_bytes(source.lane_bytes),
      wide_bytes(source.wide_bytes),
      images(source.images) {
  if (source.table_count) std::memcpy(tables.data(), source.tables, tables.bytes());
  for (int32_t i = 0; i < source.instructions; ++i) {
    const Instruction& code = source.code[i];
    const bool wide = code.flags & WIDE_STEP;
    steps.push_back(step_of(code, source, tables.data()));
    const int32_t highest = kernel_of(code) ? std::min(isa, kernel_of(code) - 1) : isa;
    const int32_t used = prepare(steps.back(), highest, wide ? images : 1);
    kernels.push_back(std::string(OPS[code.op]) + " " + isa_name(used));
    if (phases.empty() || phases.back().wide != wide) phases.push_back({i, i, wide});
    phases.back().last = i + 1;
    // what comes in floats or sums is read to the byte
    const bool slack = code.op != ENTER && code.op != RANGE && code.op != RESCALE;
    require(steps.back().in, images, slack, *this);
    if (code.other >= 0) require(steps.back().other, images, slack && !(code.flags & MEASURED), *this);
    require(steps.back().out, images, false, *this);
  }
}

Program::~Program() {
  for (auto& slot : free_) delete slot.exchange(nullptr);
}

std::unique_ptr<Arena> Program::take_arena() {
  for (auto& slot : free_)
    if (Arena* arena = slot.exchange(nullptr)) return std::unique_ptr<Arena>(arena);
  return std::make_unique<Arena>();
}

void Program::give_arena(std::unique_ptr<Arena> arena) {
  for (auto& slot : free_) {
    Arena* none = nullptr;
    if (!slot.compare_exchange_strong(none, arena.get())) continue;
    arena.release();
    return;
  }
}

}  // namespace fxq
