// A checked program is prepared for an instruction set once; see run.cpp for what follows.
#include "program.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "pool.h"

namespace fxq {
namespace {

const char* const OPS[] = {"enter", "leave", "conv", "depthwise", "add", "multiply", "table",
                           "max_pool", "average_pool", "shuffle", "nearest", "flatten",
                           "transposed", "range", "rescale", "matmul"};

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

// Steps pack their weights side by side: a layer that two of them share has a lock.
class Preparation final : public Job {
 public:
  Preparation(Program& program, int32_t isa)
      : used(program.steps.size()), program_(program), isa_(isa), errors_(program.steps.size()) {
    stages = program.steps.empty() ? 0 : 1;
  }

  int32_t units(int32_t) override { return int32_t(std::min<size_t>(used.size(), MOST_UNITS)); }

  void work(int32_t stage, int32_t unit, int32_t) override {
    for (size_t i = unit; i < used.size(); i += units(stage)) try {
        Step& step = program_.steps[i];
        const int32_t kernel = kernel_of(step.code);
        used[i] = prepare(step, kernel ? std::min(isa_, kernel - 1) : isa_,
                          step.code.flags & WIDE_STEP ? program_.images : 1);
      } catch (...) {
        errors_[i] = std::current_exception();
      }
  }

  void finish(int32_t threads) {
    if (stages) Pool::run(*this, threads);
    for (const std::exception_ptr& error : errors_)
      if (error) std::rethrow_exception(error);
  }

  std::vector<int32_t> used;  // the instruction set of each step's kernel

 private:
  Program& program_;
  int32_t isa_;
  std::vector<std::exception_ptr> errors_;
};

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
  for (int32_t i = 0; i < source.instructions; ++i)
    steps.push_back(step_of(source.code[i], source, tables.data()));
  Preparation preparation(*this, isa);
  preparation.finish(source.threads);
  for (int32_t i = 0; i < source.instructions; ++i) {
    const Instruction& code = source.code[i];
    const bool wide = code.flags & WIDE_STEP;
    kernels.push_back(std::string(OPS[code.op]) + " " + isa_name(preparation.used[i]));
    if (phases.empty() || phases.back().wide != wide) phases.push_back({i, i, wide});
    phases.back().last = i + 1;
    // floats, sums and matrices are read to the byte
    const bool slack =
        code.op != ENTER && code.op != RANGE && code.op != RESCALE && code.op != MATMUL;
    require(steps[i].in, images, slack, *this);
    if (code.other >= 0) require(steps[i].other, images, slack && !(code.flags & MEASURED), *this);
    require(steps[i].out, images, false, *this);
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
