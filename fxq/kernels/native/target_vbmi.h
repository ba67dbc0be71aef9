// VBMI from here to target_end.h. It comes after all other headers, so that no code which is
// shared with other files uses these instructions.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vbmi")
#pragma GCC optimize("no-tree-pre")  // which makes gcc copy and spill sums
#endif
#include <immintrin.h>
