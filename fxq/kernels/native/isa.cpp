// What this processor has and the operating system saves, and what FXQ_NATIVE_ISA leaves of it.
#include "isa.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace fxq {
namespace {

const char* const NAMES[] = {"plain", "neon", "avx2", "avxvnni", "vnni", "amx"};

struct Found {
  bool has[AMX + 1] = {true};
  bool vbmi = false;
};

#if defined(__x86_64__)
uint64_t saved_registers() {  // XCR0: register files that the operating system switches
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

bool linux_grants_tiles() {  // ARCH_REQ_XCOMP_PERM for the tile data, feature 18
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

Found find() {
  Found found;
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return found;  // no OSXSAVE
  const uint64_t saved = saved_registers();
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
  const auto all = [](uint32_t word, std::initializer_list<int> bits) {
    for (int bit : bits)
      if (!(word >> bit & 1)) return false;
    return true;
  };
  const bool ymm = (saved & 0x6) == 0x6, zmm = ymm && (saved & 0xe0) == 0xe0;
  found.has[AVX2] = ymm && all(b, {5});
  found.has[AVX512_VNNI] = zmm && found.has[AVX2] && all(b, {16, 17, 30, 31}) && all(c, {11});
  found.vbmi = found.has[AVX512_VNNI] && all(c, {1});
  const bool tiles = (saved >> 17 & 3) == 3 && all(d, {24, 25});
  found.has[AMX] = found.has[AVX512_VNNI] && tiles && linux_grants_tiles();
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) found.has[AVX_VNNI] = found.has[AVX2] && all(a, {4});
  return found;
}
#elif defined(__aarch64__)
Found find() {
  Found found;
  found.has[NEON] = getauxval(AT_HWCAP) >> 20 & 1;  // HWCAP_ASIMDDP: dot products
  return found;
}
#else
Found find() { return {}; }
#endif

const Found& found() {
  static const Found result = find();
  return result;
}

// The highest that FXQ_NATIVE_ISA allows; -1 where it names none.
int32_t ceiling() {
  const char* name = std::getenv("FXQ_NATIVE_ISA");
  if (!name || !*name) return AMX;
  for (int32_t isa = PLAIN; isa <= AMX; ++isa)
    if (!std::strcmp(name, NAMES[isa])) return isa;
  return -1;
}

}  // namespace

bool has_isa(int32_t isa) { return isa >= PLAIN && isa <= AMX && found().has[isa]; }

int32_t best_isa() {
  int32_t isa = ceiling();
  while (isa > PLAIN && !has_isa(isa)) --isa;
  return isa;
}

const char* isa_name(int32_t isa) { return isa >= PLAIN && isa <= AMX ? NAMES[isa] : ""; }

// FXQ_NATIVE_VBMI=0 shows tests what processors with AVX-512 VNNI alone run.
bool has_vbmi() {
  const char* wish = std::getenv("FXQ_NATIVE_VBMI");
  return found().vbmi && !(wish && !std::strcmp(wish, "0"));
}

}  // namespace fxq
