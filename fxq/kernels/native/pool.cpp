// How threads find work, wait for it, and sleep.
#include "pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <new>

#include "float_state.h"

namespace fxq {
namespace {

// How long a thread looks for work before it sleeps: a sleeper costs its waker some microseconds.
// On a busy machine the thread that it waits for may want its processor: it yields after a while.
constexpr auto PATIENCE = std::chrono::microseconds(100), YIELDING = std::chrono::microseconds(80);
constexpr int64_t STACK = 1 << 20;

uint64_t word(uint32_t serial, uint32_t next, uint32_t end) {
  return uint64_t{serial} << 32 | next << 16 | end;
}
uint32_t serial_of(uint64_t word) { return static_cast<uint32_t>(word >> 32); }
uint32_t next_of(uint64_t word) { return word >> 16 & 0xffff; }
uint32_t end_of(uint64_t word) { return word & 0xffff; }

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

void futex(std::atomic<uint32_t>& at, int operation, uint32_t value) {
  syscall(SYS_futex, &at, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

std::atomic<Pool*> the_pool{nullptr};

// The child of a fork has no workers: it starts anew, and leaves what it inherited alone.
void forget() { the_pool.store(nullptr); }
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, forget);

// The next unit of a share, if it is still one of the stage `serial`; -1 if not.
int32_t claim(std::atomic<uint64_t>& share, uint32_t serial) {
  uint64_t now = share.load(std::memory_order_acquire);
  while (serial_of(now) == serial && next_of(now) < end_of(now))
    if (share.compare_exchange_weak(now, now + (1 << 16), std::memory_order_acquire))
      return static_cast<int32_t>(next_of(now));
  return -1;
}

struct Start {
  Pool* pool;
  int32_t thread;
};

bool start_thread(void* (*body)(void*), Start* start) {
  pthread_attr_t attributes;
  sigset_t all, before;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are the caller's
  pthread_t thread;
  const bool started = pthread_create(&thread, &attributes, body, start) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return started;
}

}  // namespace

Pool& Pool::instance() {
  Pool* pool = the_pool.load(std::memory_order_acquire);
  if (pool) return *pool;
  auto* made = new Pool;
  if (the_pool.compare_exchange_strong(pool, made)) return *made;
  delete made;
  return *pool;
}

int32_t Pool::grow(int32_t threads) {
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  while (workers_ + 1 < threads) {
    auto* start = new Start{this, workers_ + 1};
    if (!start_thread(&Pool::serve, start)) {
      delete start;
      break;
    }
    ++workers_;
  }
  return threads < workers_ + 1 ? threads : workers_ + 1;
}

void Pool::run(Job& job, int32_t threads) {
  FloatState defaults;
  Pool* pool = threads > 1 ? &instance() : nullptr;
  if (pool && pool->take()) {
    pool->threads_.store(pool->grow(threads), std::memory_order_relaxed);
    pool->lead(job);
    return pool->give_back();
  }
  for (int32_t stage = 0; stage < job.stages; ++stage)
    for (int32_t unit = 0, units = job.units(stage); unit < units; ++unit) job.work(stage, unit, 0);
}

void Pool::lead(Job& job) {
  job_ = &job;
  stage_ = -1;
  finished_.store(false, std::memory_order_relaxed);
  advance(0);
  for (;;) {
    const uint64_t seen = seats_[0].share.load(std::memory_order_acquire);
    if (finished_.load(std::memory_order_acquire)) return;
    if (!help(0, seen)) wait(0, seen);
  }
}

// Done by the thread that finished a stage. It computes stages of one unit on the way, alone.
void Pool::advance(int32_t thread) {
  while (++stage_ < job_->stages) {
    const int32_t units = job_->units(stage_);
    if (units > 1) return publish(units);
    job_->work(stage_, 0, thread);
  }
  finished_.store(true);
  // From here on another job may run: its caller is woken without reason at worst.
  if (thread && seats_[0].asleep.exchange(0)) futex(seats_[0].asleep, FUTEX_WAKE, 1);
}

void Pool::publish(int32_t units) {
  const int32_t threads = threads_.load(std::memory_order_relaxed);
  ++serial_;
  done_.store(0, std::memory_order_relaxed);
  const auto first = [&](int32_t t) { return (units * t + threads - 1) / threads; };
  // Seat 0 has a unit for any count and opens last: the stage cannot end while this loop runs.
  for (int32_t t = threads - 1; t >= 0; --t) {
    Seat& seat = seats_[t];
    seat.job = job_;
    seat.stage = stage_;
    seat.total = units;
    seat.share.store(word(serial_, first(t), first(t + 1)), std::memory_order_release);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);  // with wait(): no sleeper is missed
  wake_one();
}

// Each thread that wakes up for a new stage wakes two more: nobody's start costs more than that.
void Pool::wake_one() {
  const int32_t threads = threads_.load(std::memory_order_relaxed);
  for (int32_t t = 0; t < threads; ++t) {
    std::atomic<uint32_t>& asleep = seats_[t].asleep;
    if (!asleep.load(std::memory_order_relaxed) || !asleep.exchange(0)) continue;
    keep_from_here(places_[t]);
    return futex(asleep, FUTEX_WAKE, 1);
  }
}

// Linux often wakes a thread on the processor of its waker, where it would wait for milliseconds
// while another one is idle: two threads were seen to take the time of one in half of all calls.
void Pool::keep_from_here(Place& place) {
  const int32_t worker = place.worker.load();
  const int here = sched_getcpu();
  int32_t state = Place::FREE;
  if (!worker || here < 0 || !place.state.compare_exchange_strong(state, Place::BUSY)) return;
  bool moved = false;
  if (!sched_getaffinity(worker, sizeof place.allowed, &place.allowed)) {
    cpu_set_t others = place.allowed;
    CPU_CLR(here, &others);
    moved = CPU_COUNT(&others) && !sched_setaffinity(worker, sizeof others, &others);
  }
  place.state.store(moved ? Place::MOVED : Place::FREE);
}

void Pool::let_free(Place& place) {
  for (int32_t state = Place::MOVED; !place.state.compare_exchange_strong(state, Place::BUSY);) {
    if (state == Place::FREE) return;
    state = Place::MOVED;
    sched_yield();
  }
  sched_setaffinity(0, sizeof place.allowed, &place.allowed);
  place.state.store(Place::FREE);
}

// Works on the stage of the word that was seen until nothing of it is left to claim.
bool Pool::help(int32_t thread, uint64_t seen) {
  const uint32_t serial = serial_of(seen);
  const int32_t threads = threads_.load(std::memory_order_relaxed);
  const Seat& seat = seats_[thread];
  int32_t count = 0;
  for (int32_t t = 0, at = thread; t < threads; ++t, ++at) {
    if (at >= threads) at = 0;
    for (int32_t unit; (unit = claim(seats_[at].share, serial)) >= 0; ++count)
      seat.job->work(seat.stage, unit, thread);
  }
  if (!count) return false;
  const int32_t total = seat.total;  // of another stage, perhaps, once these units are reported
  if (done_.fetch_add(count, std::memory_order_acq_rel) + count == total) advance(thread);
  return true;
}

void Pool::wait(int32_t thread, uint64_t seen) {
  Seat& seat = seats_[thread];
  const auto changed = [&] {
    return seat.share.load() != seen || (thread == 0 && finished_.load());
  };
  let_free(places_[thread]);
  const auto end = std::chrono::steady_clock::now() + PATIENCE;
  for (auto now = end - PATIENCE; now < end; now = std::chrono::steady_clock::now()) {
    for (int i = 0; i < 32; ++i) {
      if (changed()) return;
      pause();
    }
    if (end - now < YIELDING) sched_yield();
  }
  seat.asleep.store(1);
  while (!changed() && seat.asleep.load()) futex(seat.asleep, FUTEX_WAIT, 1);
  seat.asleep.store(0);
  let_free(places_[thread]);
  if (!changed()) return;
  wake_one();
  wake_one();
}

void* Pool::serve(void* given) {
  const Start start = *static_cast<Start*>(given);
  delete static_cast<Start*>(given);
  start.pool->places_[start.thread].worker.store(static_cast<int32_t>(syscall(SYS_gettid)));
  FloatState defaults;
  for (;;) {
    const uint64_t seen = start.pool->seats_[start.thread].share.load(std::memory_order_acquire);
    if (!start.pool->help(start.thread, seen)) start.pool->wait(start.thread, seen);
  }
}

}  // namespace fxq
