// One thread's microseconds for the depthwise, pointwise and pool layers of mobile nets at 224x224, by
// instruction set: minima over rounds, from the second cache on. From the root of the repository:
//   g++ -std=c++17 -O3 -ffp-contract=off -fno-math-errno -Ifxq/kernels/native tests/native/kernels/other_bench.cpp fxq/kernels/native/*.cpp -o other_bench -lpthread && /tmp/other_bench
#include <chrono>
#include <string>

#include "cases.h"

using namespace fxq;

namespace {

double microseconds(Case& c, Prepare prepare) {
  if (!prepare || !prepare(c.step, c.images)) return 0;
  Guarded in(c.in.bytes, true, SLACK), other(c.other.bytes + 1, true, SLACK),
      out(c.out.bytes, true, SLACK);
  if (c.in.view.element == 4) fill_floats(in.data, c.in.bytes);
  auto* scratch = static_cast<uint8_t*>(aligned_alloc(64, SCRATCH));
  const Operands o{in.data + c.in.first, other.data + c.other.first, out.data + c.out.first,
                   c.images};
  double best = 1e9, all = 0;
  for (int round = 0; round < 100000 && (round < 20 || all < 3e4); ++round) {
    const auto begin = std::chrono::steady_clock::now();
    for (int32_t chunk = 0; chunk < c.step.chunks; ++chunk) c.step.run(c.step, o, chunk, scratch);
    const double t =
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    best = t < best ? t : best, all += t;
  }
  free(scratch);
  return best;
}

struct Set {
  const char* name;
  Prepare prepare;
};
using Sets = std::vector<Set>;
const Sets DEPTHWISE_SETS = {{"avx2", prepare_depthwise_avx2},
                             {"avxvnni", prepare_depthwise_avxvnni},
                             {"vnni", prepare_depthwise_vnni}};
const Sets ADD_SETS = {{"avx2", prepare_add_avx2}, {"avx512", prepare_add_avx512}};
const Sets MULTIPLY_SETS = {{"avx2", prepare_multiply_avx2}, {"avx512", prepare_multiply_avx512}};
const Sets TABLE_SETS = {{"avx2", prepare_table_avx2}, {"avx512", prepare_table_avx512}};
const Sets MAX_SETS = {{"avx2", prepare_max_pool_avx2}, {"avx512", prepare_max_pool_avx512}};
const Sets AVERAGE_SETS = {{"avx2", prepare_average_pool_avx2},
                           {"avx512", prepare_average_pool_avx512}};
const Sets ENTER_SETS = {{"avx2", prepare_enter_avx2}, {"avx512", prepare_enter_avx512}};
const Sets LEAVE_SETS = {{"avx2", prepare_leave_avx2}, {"avx512", prepare_leave_avx512}};

void report(const std::string& name, Case& c, const Sets& sets, double macs) {
  printf("%-34s", name.c_str());
  for (const Set& set : sets) {
    const double t = microseconds(c, set.prepare);
    printf("  %s %8.2f us", set.name, t);
    if (macs > 0)
      printf(" %6.1f GMAC/s", macs / t / 1e3);
    else
      printf(" %6.1f GB/s", double(c.in.bytes) / t / 1e3);
    if (t > 0) printf(" (%d)", c.step.chunks);
  }
  printf("\n");
}

void depthwise(const char* net, int32_t size, int32_t channels, int32_t k, int32_t stride,
               bool table) {
  Case c;
  Instruction& code = c.step.code;
  const int32_t out = (size - 1) / stride + 1, pad = k / 2;
  code.op = DEPTHWISE, code.kh = code.kw = k, code.sh = code.sw = stride, code.dh = code.dw = 1;
  code.ph = code.pw = pad;
  c.in = bytes_tensor(1, size, size, channels, 0, pad, pad, pad, pad);
  c.out = bytes_tensor(1, out, out, channels);
  add_weights(c, channels, k, k);
  finish_case(c, table);
  report(std::string(net) + " depthwise " + std::to_string(size) + "x" + std::to_string(channels) +
             " k" + std::to_string(k) + " s" + std::to_string(stride),
         c, DEPTHWISE_SETS, double(out) * out * channels * k * k);
}

void pointwise(const char* name, Op op, int32_t size, int32_t channels, const Sets& sets) {
  Case c;
  c.in = bytes_tensor(1, size, size, channels), c.out = bytes_tensor(1, size, size, channels);
  if (op == ADD) c.other = c.in;
  if (op == MULTIPLY) c.other = bytes_tensor(1, 1, 1, channels);
  c.step.code.op = op, c.step.code.m0 = 0.7f, c.step.code.m1 = 0.6f;
  finish_case(c, op == TABLE);
  report(std::string(name) + " " + std::to_string(size) + "x" + std::to_string(channels), c, sets,
         0);
}

void pool(const char* name, Op op, int32_t size, int32_t channels, int32_t k, int32_t stride,
          int32_t pad, const Sets& sets) {
  Case c;
  Instruction& code = c.step.code;
  const int32_t out = (size + 2 * pad - k) / stride + 1;
  code.op = op, code.kh = code.kw = k, code.sh = code.sw = stride, code.dh = code.dw = 1,
  code.ph = code.pw = pad;
  code.m0 = 1;
  c.in = bytes_tensor(1, size, size, channels), c.out = bytes_tensor(1, out, out, channels);
  finish_case(c, false);
  report(std::string(name) + " " + std::to_string(size) + "x" + std::to_string(channels) + " k" +
             std::to_string(k),
         c, sets, 0);
}

void border(const char* name, Op op, int32_t size, int32_t channels, const Sets& sets) {
  Case c;
  const Tensor floats = float_tensor(1, size, size, channels, false),
               bytes = bytes_tensor(1, size, size, channels, 0, 1, 1, 1, 1);
  c.in = op == ENTER ? floats : bytes, c.out = op == ENTER ? bytes : floats;
  c.step.code.op = op, c.step.code.m0 = 0.5f;
  finish_case(c, false);
  report(std::string(name) + " " + std::to_string(size) + "x" + std::to_string(channels), c, sets,
         0);
}

}  // namespace

int main() {
  struct Layer {
    int size, channels, k, stride;
  };
  const Layer v2[] = {{112, 32, 3, 1}, {112, 96, 3, 2}, {56, 144, 3, 1}, {56, 144, 3, 2},
                      {28, 192, 3, 1}, {28, 192, 3, 2}, {14, 384, 3, 1}, {14, 576, 3, 1},
                      {14, 576, 3, 2}, {7, 960, 3, 1}};
  const Layer small[] = {{112, 16, 3, 2}, {56, 72, 3, 2},  {28, 88, 3, 1},
                         {28, 96, 5, 2},  {14, 240, 5, 1}, {14, 120, 5, 1},
                         {14, 144, 5, 1}, {14, 288, 5, 2}, {7, 576, 5, 1}};
  const Layer large[] = {{112, 16, 3, 1}, {112, 64, 3, 2}, {56, 72, 3, 1},  {56, 72, 5, 2},
                         {28, 120, 5, 1}, {28, 240, 3, 2}, {14, 200, 3, 1}, {14, 184, 3, 1},
                         {14, 480, 3, 1}, {14, 672, 3, 1}, {14, 672, 5, 2}, {7, 960, 5, 1}};
  const Layer b0[] = {{112, 32, 3, 1}, {112, 96, 3, 2}, {56, 144, 3, 1}, {56, 144, 5, 2},
                      {28, 240, 5, 1}, {28, 240, 3, 2}, {14, 480, 3, 1}, {14, 480, 5, 1},
                      {14, 672, 5, 1}, {14, 672, 5, 2}, {7, 1152, 5, 1}, {7, 1152, 3, 1}};
  const Layer shuffle[] = {{56, 24, 3, 2},  {56, 58, 3, 2},  {28, 58, 3, 1},
                           {28, 116, 3, 2}, {14, 116, 3, 1}, {7, 232, 3, 1}};
  for (const Layer& l : v2) depthwise("mobilenet_v2", l.size, l.channels, l.k, l.stride, false);
  for (const Layer& l : small) depthwise("v3_small", l.size, l.channels, l.k, l.stride, true);
  for (const Layer& l : large) depthwise("v3_large", l.size, l.channels, l.k, l.stride, true);
  for (const Layer& l : b0) depthwise("efficientnet_b0", l.size, l.channels, l.k, l.stride, true);
  for (const Layer& l : shuffle) depthwise("shufflenet", l.size, l.channels, l.k, l.stride, false);
  for (const Layer& l :
       {Layer{56, 24, 0, 0}, {28, 32, 0, 0}, {14, 96, 0, 0}, {7, 160, 0, 0}, {56, 256, 0, 0}})
    pointwise("add", ADD, l.size, l.channels, ADD_SETS);
  for (const Layer& l : {Layer{112, 32, 0, 0},
                         {56, 96, 0, 0},
                         {56, 144, 0, 0},
                         {28, 240, 0, 0},
                         {28, 72, 0, 0},
                         {14, 480, 0, 0},
                         {14, 672, 0, 0},
                         {7, 1152, 0, 0}})
    pointwise("squeeze multiply", MULTIPLY, l.size, l.channels, MULTIPLY_SETS);
  for (const Layer& l : {Layer{112, 16, 0, 0}, {14, 672, 0, 0}})
    pointwise("table", TABLE, l.size, l.channels, TABLE_SETS);
  for (const Layer& l :
       {Layer{112, 64, 3, 2}, {112, 24, 3, 2}, {55, 64, 3, 2}, {224, 64, 2, 2}, {28, 256, 3, 1}})
    pool("max pool", MAX_POOL, l.size, l.channels, l.k, l.stride, l.k == 3, MAX_SETS);
  for (const Layer& l : {Layer{112, 32, 112, 1},
                         {56, 16, 56, 1},
                         {56, 96, 56, 1},
                         {28, 240, 28, 1},
                         {28, 72, 28, 1},
                         {14, 480, 14, 1},
                         {7, 960, 7, 1},
                         {7, 1280, 7, 1},
                         {7, 2048, 7, 1},
                         {28, 256, 2, 2}})
    pool("average pool", AVERAGE_POOL, l.size, l.channels, l.k, l.stride, 0, AVERAGE_SETS);
  border("enter", ENTER, 224, 3, ENTER_SETS), border("enter", ENTER, 224, 1, ENTER_SETS),
      border("enter", ENTER, 56, 64, ENTER_SETS);
  border("leave", LEAVE, 56, 21, LEAVE_SETS), border("leave", LEAVE, 28, 256, LEAVE_SETS);
}
