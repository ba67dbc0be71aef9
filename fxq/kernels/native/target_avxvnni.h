// AVX-VNNI from here to target_end.h. It comes after all other headers, so that no code which is
// shared with other files uses these instructions.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,avxvnni")
#pragma GCC optimize("no-tree-pre")  // which makes gcc copy and spill sums
#endif
#include <immintrin.h>
