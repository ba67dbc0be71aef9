// Runs a program: which images go through all steps in one thread, and which steps all share.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "pool.h"
#include "program.h"

namespace fxq {
namespace {

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

bool has_border(const View& view) { return view.top | view.left | view.bottom | view.right; }

// `count` pixels from `at` on, of a view whose other channels belong to other values.
void fill_pixels(const View& view, uint8_t* at, int64_t count) {
  if (view.pixel == view.c) {
    std::memset(at, view.zero_point, count * view.c);
    return;
  }
  for (int64_t i = 0; i < count; ++i) std::memset(at + i * view.pixel, view.zero_point, view.c);
}

// A row's right border and the next one's left are one piece (see check.cpp).
void fill_border(const View& view, uint8_t* at, int32_t images) {
  const int64_t wide = int64_t{view.left} + view.w + view.right, above = view.top * wide + view.left;
  for (int32_t image = 0; image < images; ++image, at += view.image) {
    fill_pixels(view, at - above * view.pixel, above);
    uint8_t* end = at + view.w * view.pixel;
    for (int32_t y = 1; y < view.h; ++y, end += view.row)
      fill_pixels(view, end, view.right + view.left);
    fill_pixels(view, end, view.right + view.bottom * wide);
  }
}

// Images left over go first, when all threads start together; whole ones end at times of their own.
std::vector<Stage> stages_of(const Program& program, int32_t threads) {
  const int32_t together = threads == 1 ? 0 : program.images % threads;
  std::vector<Stage> stages;
  for (const Phase& phase : program.phases) {
    for (int32_t image = 0; image < (phase.wide ? 1 : together); ++image)
      for (int32_t s = phase.first; s < phase.last; ++s) stages.push_back({s, s + 1, image, 0});
    if (!phase.wide && program.images > together)
      stages.push_back({phase.first, phase.last, together, program.images - together});
  }
  return stages;
}

uint8_t* scratch() {
  static thread_local Block block(SCRATCH);
  return block.data();
}

class Run final : public Job {
 public:
  Run(const Program& program, Arena& arena, void* const* externals, Clocks clocks)
      : program_(program), arena_(arena), externals_(externals), clocks_(clocks) {
    stages = static_cast<int32_t>(arena.stages.size());
  }

  int32_t units(int32_t index) override {
    if (clocks_.wall) lap(index);
    const Stage& stage = arena_.stages[index];
    if (stage.whole) return std::min(stage.whole, MOST_UNITS);
    const Step& step = program_.steps[stage.first];
    if (step.chunks == 1) return 1;
    return pieces(step) + (has_border(step.out) ? 1 : 0);
  }

  void work(int32_t index, int32_t unit, int32_t thread) override {
    const Stage& stage = arena_.stages[index];
    if (!stage.whole) return share(stage, unit);
    const int64_t units = std::min(stage.whole, MOST_UNITS);
    const size_t lane = arena_.lanes.size() > 1 ? thread + 1 : 0;
    for (int64_t i = stage.whole * unit / units; i < stage.whole * (unit + 1) / units; ++i)
      for (int32_t s = stage.first; s < stage.last; ++s)
        compute(s, static_cast<int32_t>(stage.image + i), lane, 0, program_.steps[s].chunks, true);
  }

  // Time since the last stage began goes to its steps; whole images share it by what they took.
  void lap(int32_t index) {
    const int64_t time = now();
    if (index > 0) spread(arena_.stages[index - 1], time - since_);
    since_ = time;
  }

 private:
  static int32_t pieces(const Step& step) { return std::min(step.chunks, MOST_UNITS - 1); }

  void share(const Stage& stage, int32_t unit) {
    const Step& step = program_.steps[stage.first];
    const int64_t units = pieces(step);
    if (step.chunks == 1) return compute(stage.first, stage.image, 0, 0, 1, true);
    compute(stage.first, stage.image, 0, static_cast<int32_t>(step.chunks * unit / units),
            unit == units ? step.chunks : static_cast<int32_t>(step.chunks * (unit + 1) / units),
            unit == units);
  }

  uint8_t* address(const View& view, int32_t image, size_t lane) const {
    if (view.space == LANE) return arena_.lanes[lane]->data() + view.offset;
    uint8_t* base = view.space == WIDE ? arena_.wide->data()
                                       : static_cast<uint8_t*>(externals_[view.space - EXTERNAL]);
    return base + view.offset + image * view.image;
  }

  void compute(int32_t index, int32_t image, size_t lane, int32_t chunk, int32_t end,
               bool border) const {
    const Step& step = program_.steps[index];
    const int64_t start = clocks_.busy ? now() : 0;
    const bool wide = step.code.flags & WIDE_STEP;
    const Operands operands{address(step.in, image, lane),
                            step.code.other < 0 ? nullptr : address(step.other, image, lane),
                            address(step.out, image, lane), wide ? program_.images : 1};
    for (; chunk < end; ++chunk) step.run(step, operands, chunk, scratch());
    if (border && has_border(step.out)) fill_border(step.out, operands.out, operands.images);
    if (clocks_.busy) __atomic_fetch_add(&clocks_.busy[index], now() - start, __ATOMIC_RELAXED);
  }

  void spread(const Stage& stage, int64_t time) const {
    int64_t all = 0;
    for (int32_t s = stage.first; s < stage.last; ++s) all += clocks_.busy[s];
    for (int32_t s = stage.first; s < stage.last; ++s)
      clocks_.wall[s] += all ? static_cast<int64_t>(double(time) * clocks_.busy[s] / all) : 0;
  }

  const Program& program_;
  Arena& arena_;
  void* const* externals_;
  Clocks clocks_;
  int64_t since_ = 0;
};

int32_t check_tensors(const Program& program, void* const* externals, const int64_t* bytes,
                      int32_t count) {
  if (count < 0 || size_t(count) < program.needed.size()) return WRONG_COUNT;
  for (size_t k = 0; k < program.needed.size(); ++k) {
    if (bytes[k] < program.needed[k]) return TOO_SMALL;
    if (!externals[k]) return NULL_POINTER;
    if (program.floats[k] && reinterpret_cast<uintptr_t>(externals[k]) % 4) return MISALIGNED;
  }
  return RUN_OK;
}

void make_ready(const Program& program, Arena& arena, int32_t threads) {
  if (arena.threads != threads) arena.stages = stages_of(program, threads);
  arena.threads = threads;
  const bool whole = threads > 1 && program.images >= threads;
  const size_t lanes = whole ? threads + 1 : 1;
  while (arena.lanes.size() < lanes) arena.lanes.push_back(std::make_unique<Block>(program.lane_bytes));
  if (!arena.wide) arena.wide = std::make_unique<Block>(program.wide_bytes * program.images);
}

}  // namespace

int32_t run_program(Program& program, void* const* externals, const int64_t* bytes, int32_t count,
                    int32_t threads, Clocks clocks) try {
  if (const int32_t error = check_tensors(program, externals, bytes, count)) return error;
  threads = std::clamp(threads, 1, MOST_THREADS);
  auto arena = program.take_arena();
  make_ready(program, *arena, threads);
  Run run(program, *arena, externals, clocks);
  Pool::run(run, threads);
  if (clocks.wall) run.lap(run.stages);
  program.give_arena(std::move(arena));
  return RUN_OK;
} catch (const std::bad_alloc&) {
  return NO_MEMORY;
}

}  // namespace fxq
