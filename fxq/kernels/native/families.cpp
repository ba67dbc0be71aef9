// The table that dispatches a step to its kernel: plain, AVX2, AVX-VNNI, AVX-512 VNNI, AMX.
#include "families.h"

#include "dense.h"

namespace fxq {

const Family FAMILIES[] = {
    {ENTER, {prepare_enter_plain, nullptr, nullptr, prepare_enter_avx512, nullptr}},
    {LEAVE, {prepare_leave_plain, nullptr, nullptr, prepare_leave_avx512, nullptr}},
    {CONV, {prepare_conv_plain, nullptr, nullptr, prepare_conv_vnni, prepare_conv_amx}},
    {DEPTHWISE, {prepare_depthwise_plain, nullptr, nullptr, prepare_depthwise_vnni, nullptr}},
    {ADD, {prepare_add_plain, nullptr, nullptr, prepare_add_avx512, nullptr}},
    {MULTIPLY, {prepare_multiply_plain, nullptr, nullptr, prepare_multiply_avx512, nullptr}},
    {TABLE, {prepare_table_plain, nullptr, nullptr, prepare_table_avx512, nullptr}},
    {MAX_POOL, {prepare_max_pool_plain, nullptr, nullptr, prepare_max_pool_avx512, nullptr}},
    {AVERAGE_POOL, {prepare_average_pool_plain, nullptr, nullptr, prepare_average_pool_avx512, nullptr}},
    {SHUFFLE, {prepare_shuffle_plain, nullptr, nullptr, nullptr, nullptr}},
    {NEAREST, {prepare_nearest_plain, nullptr, nullptr, nullptr, nullptr}},
    {FLATTEN, {prepare_flatten_plain, nullptr, nullptr, nullptr, nullptr}},
    {TRANSPOSED, {prepare_transposed_plain, nullptr, nullptr, nullptr, nullptr}},
};
const int32_t FAMILY_COUNT = sizeof FAMILIES / sizeof FAMILIES[0];

}  // namespace fxq
