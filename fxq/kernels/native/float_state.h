// Rounding to nearest, denormal numbers kept: for as long as an object of this lives.
#pragma once
#include <cstdint>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fxq {

class FloatState {
#if defined(__x86_64__)
 public:
  FloatState() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~FloatState() { _mm_setcsr(before_); }

 private:
  uint32_t before_;
#elif defined(__aarch64__)
 public:
  FloatState() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~FloatState() { __asm__ volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

}  // namespace fxq
