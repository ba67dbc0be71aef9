// The table that dispatches a step to its kernel: plain, NEON, AVX2, AVX-VNNI, AVX-512 VNNI, AMX.
// build.py names the files of each processor; the kernels of others are null here.
#include "families.h"

#include "dense.h"

#if defined(__x86_64__)
#define X86(...) __VA_ARGS__
#else
#define X86(...) nullptr
#endif
#if defined(__aarch64__)
#define ARM(...) __VA_ARGS__
#else
#define ARM(...) nullptr
#endif

namespace fxq {

const Family FAMILIES[] = {
    {ENTER, {prepare_enter_plain, ARM(prepare_enter_neon), X86(prepare_enter_avx2, nullptr, prepare_enter_avx512, nullptr)}},
    {LEAVE, {prepare_leave_plain, ARM(prepare_leave_neon), X86(prepare_leave_avx2, nullptr, prepare_leave_avx512, nullptr)}},
    {CONV, {prepare_conv_plain, ARM(prepare_conv_neon), X86(prepare_conv_avx2, prepare_conv_avxvnni, prepare_conv_vnni, prepare_conv_amx)}},
    {DEPTHWISE, {prepare_depthwise_plain, ARM(prepare_depthwise_neon), X86(prepare_depthwise_avx2, prepare_depthwise_avxvnni, prepare_depthwise_vnni, nullptr)}},
    {ADD, {prepare_add_plain, ARM(prepare_add_neon), X86(prepare_add_avx2, nullptr, prepare_add_avx512, nullptr)}},
    {MULTIPLY, {prepare_multiply_plain, ARM(prepare_multiply_neon), X86(prepare_multiply_avx2, nullptr, prepare_multiply_avx512, nullptr)}},
    {TABLE, {prepare_table_plain, ARM(prepare_table_neon), X86(prepare_table_avx2, nullptr, prepare_table_avx512, nullptr)}},
    {MAX_POOL, {prepare_max_pool_plain, ARM(prepare_max_pool_neon), X86(prepare_max_pool_avx2, nullptr, prepare_max_pool_avx512, nullptr)}},
    {AVERAGE_POOL, {prepare_average_pool_plain, ARM(prepare_average_pool_neon), X86(prepare_average_pool_avx2, nullptr, prepare_average_pool_avx512, nullptr)}},
    {SHUFFLE, {prepare_shuffle_plain, ARM(prepare_shuffle_neon), X86(prepare_shuffle_avx2, nullptr, prepare_shuffle_avx512, nullptr)}},
    {NEAREST, {prepare_nearest_plain}},
    {FLATTEN, {prepare_flatten_plain}},
    {TRANSPOSED, {prepare_transposed_plain, ARM(prepare_transposed_neon), X86(prepare_transposed_avx2, prepare_transposed_avxvnni, prepare_transposed_vnni, nullptr)}},
    {RANGE, {prepare_range_plain, X86(prepare_range_avx2, nullptr, prepare_range_avx512, nullptr)}},
    {RESCALE, {prepare_rescale_plain, X86(prepare_rescale_avx2, nullptr, prepare_rescale_avx512, nullptr)}},
    {MATMUL, {prepare_matmul_plain, ARM(prepare_matmul_neon), X86(prepare_matmul_avx2, prepare_matmul_avxvnni, prepare_matmul_vnni, nullptr)}},
};
const int32_t FAMILY_COUNT = sizeof FAMILIES / sizeof FAMILIES[0];

}  // namespace fxq
