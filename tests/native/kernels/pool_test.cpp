// The pool computes every unit of every stage once, in order, for any number of callers.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "pool.h"

namespace {

using namespace fxq;

// A unit adds one to its own cell, and reads all cells of the stage before it without a lock:
// a stage that began too early shows as a wrong sum (and as a race to the thread sanitizer).
struct Counting final : Job {
  std::vector<std::vector<int32_t>> cells;
  std::atomic<int32_t> wrong{0};

  Counting(uint32_t seed, int32_t count) {
    for (int32_t s = 0; s < count; ++s) {
      seed = seed * 1664525 + 1013904223;
      cells.emplace_back(seed >> 28 ? 1 + (seed >> 20 & 31) : 1, 0);
    }
    stages = count;
  }
  int32_t units(int32_t stage) override { return static_cast<int32_t>(cells[stage].size()); }
  void work(int32_t stage, int32_t unit, int32_t) override {
    cells[stage][unit]++;
    if (stage == 0) return;
    for (const int32_t cell : cells[stage - 1])
      if (cell != 1) wrong++;
  }
  bool good() const {
    for (const auto& stage : cells)
      for (const int32_t cell : stage)
        if (cell != 1) return false;
    return wrong == 0;
  }
};

int32_t failures(int32_t runs, uint32_t seed) {
  int32_t bad = 0;
  for (int32_t run = 0; run < runs; ++run) {
    Counting job(seed + run, 1 + run % 50);
    Pool::run(job, 1 + (seed + run) % 8);
    bad += !job.good();
  }
  return bad;
}

int32_t many_callers(int32_t runs) {
  std::vector<std::thread> callers;
  std::atomic<int32_t> bad{0};
  for (uint32_t c = 0; c < 4; ++c)
    callers.emplace_back([&bad, c, runs] { bad += failures(runs, 1000 * c); });
  for (auto& caller : callers) caller.join();
  return bad;
}

int32_t after_fork() {
  const pid_t child = fork();
  if (child == 0) _exit(failures(50, 7) ? 1 : 0);
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0;
}

}  // namespace

int main(int count, char** given) {
  const int32_t runs = count > 1 ? std::atoi(given[1]) : 300;
  int32_t bad = failures(runs, 1) + many_callers(runs);
#if !defined(__SANITIZE_THREAD__)  // which does not follow a fork of threads
  if (count < 3) bad += after_fork();  // nor does qemu: a second word leaves it out
#endif
  bad += failures(runs, 2);
  std::printf("%d of the pool's runs were wrong\n", bad);
  return bad != 0;
}
