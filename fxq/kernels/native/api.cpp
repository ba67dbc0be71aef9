// The C interface: exceptions become sentences.
#include "api.h"

#include <cstring>
#include <pthread.h>
#include <stdexcept>

#include "program.h"

#ifndef FXQ_INTERFACE
#define FXQ_INTERFACE 0
#endif
#define FXQ_EXPORT __attribute__((visibility("default")))

namespace {

// Packing weights takes locks of the C++ library. A fork in the middle of it waits, so that the
// child finds them free.
pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
void before_fork() { pthread_mutex_lock(&making); }
void after_fork() { pthread_mutex_unlock(&making); }
[[maybe_unused]] const int registered = pthread_atfork(before_fork, after_fork, after_fork);

struct Making {
  Making() { pthread_mutex_lock(&making); }
  ~Making() { pthread_mutex_unlock(&making); }
};

template <class Body>
void* guarded(char* error, int32_t size, Body body) try {
  Making lock;
  return body();
} catch (const std::bad_alloc&) {
  std::strncpy(error, "there is not enough memory", size - 1);
  return nullptr;
} catch (const std::exception& wrong) {
  std::strncpy(error, wrong.what(), size - 1);
  return nullptr;
}

void refuse(const std::string& wrong) {
  if (!wrong.empty()) throw std::invalid_argument(wrong);
}

int32_t run(void* program, void* const* externals, const int64_t* bytes, int32_t count,
            int32_t threads, fxq::Clocks clocks) {
  return fxq::run_program(*static_cast<fxq::Program*>(program), externals, bytes, count, threads,
                          clocks);
}

}  // namespace

extern "C" {

FXQ_EXPORT int32_t fxq_abi() { return FXQ_INTERFACE; }

FXQ_EXPORT int32_t fxq_sizeof(int32_t which) {
  const size_t sizes[] = {sizeof(fxq::View), sizeof(fxq::Instruction), sizeof(fxq::Layer)};
  return which >= 0 && which < 3 ? static_cast<int32_t>(sizes[which]) : -1;
}

FXQ_EXPORT int32_t fxq_best_isa() { return fxq::best_isa(); }

FXQ_EXPORT int32_t fxq_has_isa(int32_t isa) { return fxq::has_isa(isa); }

FXQ_EXPORT const char* fxq_isa_name(int32_t isa) { return fxq::isa_name(isa); }

FXQ_EXPORT void* fxq_layer_new(const fxq::Layer* layer, char* error, int32_t size) {
  return guarded(error, size, [&]() -> void* {
    refuse(fxq::check_layer(*layer));
    return new fxq::Weights(*layer);
  });
}

FXQ_EXPORT void fxq_layer_free(void* layer) { delete static_cast<fxq::Weights*>(layer); }

FXQ_EXPORT void* fxq_program_new(const fxq::Instruction* code, int32_t instructions,
                                 const fxq::View* views, int32_t view_count, void* const* layers,
                                 int32_t layer_count, const uint8_t* tables, int32_t table_count,
                                 int64_t lane_bytes, int64_t wide_bytes, int32_t images,
                                 int32_t isa, int32_t threads, char* error, int32_t size) {
  return guarded(error, size, [&]() -> void* {
    const fxq::Source source{code, views, reinterpret_cast<fxq::Weights* const*>(layers), tables,
                             instructions, view_count, layer_count, table_count, images,
                             lane_bytes, wide_bytes, threads};
    refuse(fxq::check_program(source));
    if (!fxq::has_isa(isa)) refuse("this processor has no such instruction set");
    return new fxq::Program(source, isa);
  });
}

FXQ_EXPORT void fxq_program_free(void* program) { delete static_cast<fxq::Program*>(program); }

FXQ_EXPORT int32_t fxq_program_run(void* program, void* const* externals, const int64_t* bytes,
                                   int32_t count, int32_t threads) {
  return run(program, externals, bytes, count, threads, {});
}

FXQ_EXPORT int32_t fxq_program_profile(void* program, void* const* externals, const int64_t* bytes,
                                       int32_t count, int32_t threads, int64_t* nanoseconds) {
  return run(program, externals, bytes, count, threads, {nanoseconds, nullptr});
}

FXQ_EXPORT int32_t fxq_program_clocks(void* program, void* const* externals, const int64_t* bytes,
                                      int32_t count, int32_t threads, int64_t* busy,
                                      int64_t* wall) {
  return run(program, externals, bytes, count, threads, {busy, wall});
}

FXQ_EXPORT const char* fxq_program_kernel(void* program, int32_t step) {
  const auto& kernels = static_cast<fxq::Program*>(program)->kernels;
  return step >= 0 && step < static_cast<int32_t>(kernels.size()) ? kernels[step].c_str() : "";
}

}  // extern "C"
