// The C interface of the library: plain pointers, no torch, no exceptions across it.
#pragma once
#include <cstdint>

#include "native.h"

extern "C" {
int32_t fxq_abi();                        // a digest of native.h and api.h (build.py)
int32_t fxq_sizeof(int32_t which);         // of View (0), Instruction (1), Layer (2)
int32_t fxq_best_isa();                   // fxq::Isa of this processor, lowered by FXQ_NATIVE_ISA,
                                          // which must name one: -1 else
int32_t fxq_has_isa(int32_t isa);         // 1 where this processor has it
const char* fxq_isa_name(int32_t isa);
// Multiplies on registers alone, `rounds` times; gives the multiply-accumulates that it did, 0 where
// the processor lacks the instruction set, or has none for it.
int64_t fxq_peak(int32_t isa, int64_t rounds);

// Weights, copied and checked. Null on failure, with a sentence in `error` (`size` bytes).
void* fxq_layer_new(const fxq::Layer* layer, char* error, int32_t size);
void fxq_layer_free(void* layer);

// A program over views. Every read and write is checked against `lane_bytes` (one arena), against
// `wide_bytes` (one image's part of the memory for all) and, at each run, against the callers'
// tensors. `tables` are rows of 256 bytes, copied. Layers must outlive the program. Up to `threads`
// threads pack weights.
void* fxq_program_new(const fxq::Instruction* code, int32_t instructions, const fxq::View* views,
                      int32_t view_count, void* const* layers, int32_t layer_count,
                      const uint8_t* tables, int32_t table_count, int64_t lane_bytes,
                      int64_t wide_bytes, int32_t images, int32_t isa, int32_t threads, char* error,
                      int32_t size);
void fxq_program_free(void* program);

// 0, or a code below. `externals` and `bytes` are the caller's tensors. Safe in many threads.
int32_t fxq_program_run(void* program, void* const* externals, const int64_t* bytes,
                        int32_t externals_count, int32_t threads);
// The same, with nanoseconds added for each step (over the threads that worked on it).
int32_t fxq_program_profile(void* program, void* const* externals, const int64_t* bytes,
                            int32_t externals_count, int32_t threads, int64_t* nanoseconds);
// The same with the wall time of each step; images that run side by side share theirs.
int32_t fxq_program_clocks(void* program, void* const* externals, const int64_t* bytes,
                           int32_t externals_count, int32_t threads, int64_t* busy, int64_t* wall);
const char* fxq_program_kernel(void* program, int32_t step);  // "dense vnni", ...
}
