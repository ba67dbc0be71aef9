// One pool of threads for the process. It runs one job at a time, the caller among the workers.
#pragma once
#include <sched.h>

#include <atomic>
#include <cstdint>

namespace fxq {

constexpr int32_t MOST_THREADS = 256, MOST_UNITS = 4096;

// Stages in order; the units of a stage are independent, and all done before the next one starts.
class Job {
 public:
  int32_t stages = 0;
  virtual int32_t units(int32_t stage) = 0;  // 1 to MOST_UNITS; asked when the stage starts
  virtual void work(int32_t stage, int32_t unit, int32_t thread) = 0;

 protected:
  ~Job() = default;
};

// A word of a seat: serial number of the stage (32 bits), next unit (16), end of the share (16).
// Each seat has a share of the stage's units; a thread takes units from its own, then from others'.
// Claims are compare-and-swap on the whole word, so a thread that was away for any time can only
// take what is due now. What the stage is stands beside the word, so that a waiting thread gets all
// in one cache line; it is read only by who holds a unit, which keeps the stage from ending.
struct alignas(128) Seat {
  std::atomic<uint64_t> share{0};
  std::atomic<uint32_t> asleep{0};  // a futex
  int32_t stage = 0, total = 0;
  Job* job = nullptr;
};

// A worker's own processors, while `wake_one` keeps it from that of who wakes it.
struct Place {
  std::atomic<int32_t> worker{0};  // its number in the system
  enum State : int32_t { FREE, MOVED, BUSY };  // who makes it BUSY may use `allowed`
  std::atomic<int32_t> state{FREE};
  cpu_set_t allowed;
};

class Pool {
 public:
  // Runs the job with up to `threads` threads; alone where the pool serves another thread.
  static void run(Job& job, int32_t threads);

 private:
  static Pool& instance();
  bool take() { return !taken_.exchange(true, std::memory_order_acquire); }
  void give_back() { taken_.store(false, std::memory_order_release); }
  int32_t grow(int32_t threads);
  void lead(Job& job);
  void advance(int32_t thread);
  void publish(int32_t units);
  void wake_one();
  void keep_from_here(Place& place);
  void let_free(Place& place);
  bool help(int32_t thread, uint64_t seen);
  void wait(int32_t thread, uint64_t seen);
  static void* serve(void* start);

  Seat seats_[MOST_THREADS];
  Place places_[MOST_THREADS];
  std::atomic<int32_t> threads_{1};  // that the present job may use
  alignas(128) std::atomic<int32_t> done_{0};
  alignas(128) Job* job_ = nullptr;  // this and the next two belong to who ends a stage
  int32_t stage_ = 0;
  uint32_t serial_ = 0;
  std::atomic<bool> finished_{true}, taken_{false};
  int32_t workers_ = 0;
};

}  // namespace fxq
