// Instructions of this file: after the standard headers, so that no code shared with others uses them.
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avxvnni")
#endif
#include <immintrin.h>
