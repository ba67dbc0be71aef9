// The end of what target_*.h began.
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
