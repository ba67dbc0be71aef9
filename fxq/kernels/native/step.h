// How a step is prepared once and run many times, and what a family of kernels provides.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "native.h"

namespace fxq {

class Weights;  // weights.h: a layer's weights, and the forms that they were packed in

// Instruction sets, those of each architecture from the lowest on: NEON (with dot products) is
// Arm's, the others are x86's. FXQ_NATIVE_ISA (plain, neon, avx2, avxvnni, vnni, amx) lowers the one
// that is used; VBMI is asked for apart (has_vbmi), for byte permutes only.
enum Isa : int32_t { PLAIN, NEON, AVX2, AVX_VNNI, AVX512_VNNI, AMX };

struct Operands {  // addresses of pixel (0, 0) for one image; of the first one for WIDE_STEP
  const uint8_t* in;
  const uint8_t* other;
  uint8_t* out;
  int32_t images;  // 1, or all of the call for WIDE_STEP
};

struct Step {
  Instruction code;
  View in, other, out;
  Weights* weights;       // null without a layer
  const uint8_t* table;   // 256 results; null without one
  int32_t chunks;         // pieces of work, each for one thread; the border is apart
  // Computes one chunk. `scratch` are SCRATCH bytes of the thread's own, aligned to 64.
  void (*run)(const Step&, const Operands&, int32_t chunk, uint8_t* scratch);
  const void* packed;             // what prepare() took from `weights`
  std::vector<int32_t> numbers;   // what prepare() computed of the geometry
  std::shared_ptr<const void> owned = nullptr;  // what else `run` needs, freed with the step
};

constexpr int64_t SCRATCH = 1 << 18;

inline int32_t kernel_of(const Instruction& code) { return code.variant & 255; }
inline int32_t split_of(const Instruction& code) { return code.variant >> 8 & 255; }
inline int32_t panel_of(const Instruction& code) { return code.variant >> 16; }

// Prepares a step for an instruction set: sets `run`, `chunks`, `packed`, `numbers`. False: this
// family has no kernel for it there (the next lower set is asked; PLAIN never refuses).
// `images`: how many the step computes at once.
using Prepare = bool (*)(Step&, int32_t images);

// One row for each operator; a null entry means the next lower instruction set.
struct Family {
  Op op;
  Prepare prepare[AMX + 1];
};
extern const Family FAMILIES[];
extern const int32_t FAMILY_COUNT;

bool has_vbmi();  // isa.cpp

}  // namespace fxq
