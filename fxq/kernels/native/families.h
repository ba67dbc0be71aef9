// The kernels of all operators but convolutions (dense.h), one prepare for each instruction set.
#pragma once
#include "step.h"

namespace fxq {

bool prepare_enter_plain(Step& step, int32_t images);
bool prepare_enter_neon(Step& step, int32_t images);
bool prepare_enter_avx2(Step& step, int32_t images);
bool prepare_enter_avx512(Step& step, int32_t images);
bool prepare_leave_plain(Step& step, int32_t images);
bool prepare_leave_neon(Step& step, int32_t images);
bool prepare_leave_avx2(Step& step, int32_t images);
bool prepare_leave_avx512(Step& step, int32_t images);
bool prepare_depthwise_plain(Step& step, int32_t images);
bool prepare_depthwise_neon(Step& step, int32_t images);
bool prepare_depthwise_avx2(Step& step, int32_t images);
bool prepare_depthwise_avxvnni(Step& step, int32_t images);
bool prepare_depthwise_vnni(Step& step, int32_t images);
bool prepare_add_plain(Step& step, int32_t images);
bool prepare_add_neon(Step& step, int32_t images);
bool prepare_add_avx2(Step& step, int32_t images);
bool prepare_add_avx512(Step& step, int32_t images);
bool prepare_multiply_plain(Step& step, int32_t images);
bool prepare_multiply_neon(Step& step, int32_t images);
bool prepare_multiply_avx2(Step& step, int32_t images);
bool prepare_multiply_avx512(Step& step, int32_t images);
bool prepare_table_plain(Step& step, int32_t images);
bool prepare_table_neon(Step& step, int32_t images);
bool prepare_table_avx2(Step& step, int32_t images);
bool prepare_table_avx512(Step& step, int32_t images);
bool prepare_max_pool_plain(Step& step, int32_t images);
bool prepare_max_pool_neon(Step& step, int32_t images);
bool prepare_max_pool_avx2(Step& step, int32_t images);
bool prepare_max_pool_avx512(Step& step, int32_t images);
bool prepare_average_pool_plain(Step& step, int32_t images);
bool prepare_average_pool_neon(Step& step, int32_t images);
bool prepare_average_pool_avx2(Step& step, int32_t images);
bool prepare_average_pool_avx512(Step& step, int32_t images);
bool prepare_shuffle_plain(Step& step, int32_t images);
bool prepare_shuffle_neon(Step& step, int32_t images);
bool prepare_shuffle_avx2(Step& step, int32_t images);
bool prepare_shuffle_avx512(Step& step, int32_t images);
bool prepare_nearest_plain(Step& step, int32_t images);
bool prepare_flatten_plain(Step& step, int32_t images);

bool prepare_matmul_plain(Step& step, int32_t images);
bool prepare_matmul_neon(Step& step, int32_t images);
bool prepare_matmul_avx2(Step& step, int32_t images);
bool prepare_matmul_avxvnni(Step& step, int32_t images);
bool prepare_matmul_vnni(Step& step, int32_t images);

bool prepare_range_plain(Step& step, int32_t images);
bool prepare_range_avx2(Step& step, int32_t images);
bool prepare_range_avx512(Step& step, int32_t images);
bool prepare_rescale_plain(Step& step, int32_t images);
bool prepare_rescale_avx2(Step& step, int32_t images);
bool prepare_rescale_avx512(Step& step, int32_t images);

}  // namespace fxq
