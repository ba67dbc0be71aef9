// Multiply-accumulates per nanosecond of each kernel, one thread, least time of many runs.
//   N=fxq/kernels/native; g++ -std=c++17 -O3 -ffp-contract=off -fno-math-errno -I $N -o dense_bench
//       tests/native/kernels/dense_bench.cpp $(ls $N/*.cpp | grep -v _neon) -pthread
//   ./dense_bench [net] [images] [part of a layer's name] [kernel]
#include "dense_case.h"

#include <chrono>
#include <cmath>
#include <string>

extern "C" int64_t fxq_peak(int32_t isa, int64_t rounds);

using namespace fxq;

namespace {

struct LayerRow {
  const char *net, *name;
  int32_t in, out, size, kernel, stride, flags, groups;
};

constexpr LayerRow LAYERS[] = {
    {"resnet18", "conv1", 3, 64, 224, 7, 2, 0, 1},
    {"resnet18", "layer1 3x3", 64, 64, 56, 3, 1, 0, 1},
    {"resnet18", "layer1 3x3 add", 64, 64, 56, 3, 1, RESIDUAL, 1},
    {"resnet18", "layer2 3x3/2", 64, 128, 56, 3, 2, 0, 1},
    {"resnet18", "layer2 1x1/2", 64, 128, 56, 1, 2, 0, 1},
    {"resnet18", "layer2 3x3", 128, 128, 28, 3, 1, 0, 1},
    {"resnet18", "layer3 3x3/2", 128, 256, 28, 3, 2, 0, 1},
    {"resnet18", "layer3 3x3", 256, 256, 14, 3, 1, 0, 1},
    {"resnet18", "layer4 3x3/2", 256, 512, 14, 3, 2, 0, 1},
    {"resnet18", "layer4 3x3", 512, 512, 7, 3, 1, 0, 1},
    {"resnet18", "fc", 512, 1000, 1, 1, 1, FLOAT_OUT, 1},
    {"resnet50", "layer1 64-64", 64, 64, 56, 1, 1, 0, 1},
    {"resnet50", "layer1 64-256 add", 64, 256, 56, 1, 1, RESIDUAL, 1},
    {"resnet50", "layer1 64-256", 64, 256, 56, 1, 1, 0, 1},
    {"resnet50", "layer1 256-64", 256, 64, 56, 1, 1, 0, 1},
    {"resnet50", "layer2 256-128", 256, 128, 56, 1, 1, 0, 1},
    {"resnet50", "layer2 3x3/2", 128, 128, 56, 3, 2, 0, 1},
    {"resnet50", "layer2 128-512 add", 128, 512, 28, 1, 1, RESIDUAL, 1},
    {"resnet50", "layer2 512-128", 512, 128, 28, 1, 1, 0, 1},
    {"resnet50", "layer2 256-512/2", 256, 512, 56, 1, 2, 0, 1},
    {"resnet50", "layer3 512-256", 512, 256, 28, 1, 1, 0, 1},
    {"resnet50", "layer3 256-1024 add", 256, 1024, 14, 1, 1, RESIDUAL, 1},
    {"resnet50", "layer3 1024-256", 1024, 256, 14, 1, 1, 0, 1},
    {"resnet50", "layer3 3x3/2", 256, 256, 28, 3, 2, 0, 1},
    {"resnet50", "layer4 3x3/2", 512, 512, 14, 3, 2, 0, 1},
    {"resnet50", "layer4 512-2048 add", 512, 2048, 7, 1, 1, RESIDUAL, 1},
    {"resnet50", "layer4 2048-512", 2048, 512, 7, 1, 1, 0, 1},
    {"resnet50", "layer4 1024-2048/2", 1024, 2048, 14, 1, 2, 0, 1},
    {"resnet50", "fc", 2048, 1000, 1, 1, 1, FLOAT_OUT, 1},
    {"mobilenetv2", "conv1", 3, 32, 224, 3, 2, 0, 1},
    {"mobilenetv2", "32-16", 32, 16, 112, 1, 1, 0, 1},
    {"mobilenetv2", "16-96", 16, 96, 112, 1, 1, 0, 1},
    {"mobilenetv2", "96-24", 96, 24, 56, 1, 1, 0, 1},
    {"mobilenetv2", "24-144", 24, 144, 56, 1, 1, 0, 1},
    {"mobilenetv2", "144-24 add", 144, 24, 56, 1, 1, RESIDUAL, 1},
    {"mobilenetv2", "144-32", 144, 32, 28, 1, 1, 0, 1},
    {"mobilenetv2", "32-192", 32, 192, 28, 1, 1, 0, 1},
    {"mobilenetv2", "192-32 add", 192, 32, 28, 1, 1, RESIDUAL, 1},
    {"mobilenetv2", "192-64", 192, 64, 14, 1, 1, 0, 1},
    {"mobilenetv2", "64-384", 64, 384, 14, 1, 1, 0, 1},
    {"mobilenetv2", "384-64 add", 384, 64, 14, 1, 1, RESIDUAL, 1},
    {"mobilenetv2", "384-96", 384, 96, 14, 1, 1, 0, 1},
    {"mobilenetv2", "96-576", 96, 576, 14, 1, 1, 0, 1},
    {"mobilenetv2", "576-96 add", 576, 96, 14, 1, 1, RESIDUAL, 1},
    {"mobilenetv2", "576-160", 576, 160, 7, 1, 1, 0, 1},
    {"mobilenetv2", "160-960", 160, 960, 7, 1, 1, 0, 1},
    {"mobilenetv2", "960-160 add", 960, 160, 7, 1, 1, RESIDUAL, 1},
    {"mobilenetv2", "960-320", 960, 320, 7, 1, 1, 0, 1},
    {"mobilenetv2", "320-1280", 320, 1280, 7, 1, 1, 0, 1},
    {"mobilenetv2", "fc", 1280, 1000, 1, 1, 1, FLOAT_OUT, 1},
    {"resnext", "128 in 32 groups", 128, 128, 56, 3, 1, 0, 32},
};

double nanoseconds() {
  return double(std::chrono::steady_clock::now().time_since_epoch().count());
}

template <class F>
double least(F&& f, double budget) {
  double best = 1e30;
  for (double begin = nanoseconds(); nanoseconds() - begin < budget;) {
    double start = nanoseconds();
    f();
    best = std::min(best, nanoseconds() - start);
  }
  return best;
}

Case case_of(const LayerRow& row, int32_t images) {
  Case c;
  Instruction& code = c.code;
  code.op = CONV, code.flags = row.flags | (row.size == 1 ? WIDE_STEP : 0);
  code.kh = code.kw = row.kernel, code.sh = code.sw = row.stride, code.dh = code.dw = 1;
  code.ph = code.pw = row.kernel / 2;
  code.zero_other = 20, code.m1 = 1.3f, code.high = 255, code.table = -1;
  c.images = row.size == 1 ? images : 1;
  c.layer.inputs = row.in / row.groups, c.layer.outputs = row.out, c.layer.groups = row.groups;
  c.lay_out(row.size, row.size, 0, 0, row.flags & FLOAT_OUT || row.size == 1 ? 0 : 1);
  Random random{};
  c.draw_numbers(random);
  return c;
}

double time_of(const Case& c, const Step& step) {
  Guarded in(c.in.bytes, true), other(c.other.bytes, true), out(c.out.bytes, true);
  Random random{};
  in.fill(random), other.fill(random), out.fill(random);
  Operands operands{in.data + c.in.view.offset, other.data + c.other.view.offset,
                    out.data + c.out.view.offset, c.images};
  alignas(64) static uint8_t scratch[SCRATCH];
  return least([&] {
    for (int32_t i = 0; i < step.chunks; i++) step.run(step, operands, i, scratch);
  }, 4e7);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string net = argc > 1 ? argv[1] : "", part = argc > 3 ? argv[3] : "";
  const std::string only = argc > 4 ? argv[4] : "";
  const int32_t images = argc > 2 ? atoi(argv[2]) : 1;
  printf("peaks, GMAC/s:");
  for (int32_t isa = PLAIN + 1; isa <= AMX; isa++) {
    const double macs = double(fxq_peak(isa, 10000));
    if (macs) printf(" %s %.0f", isa_name(isa), macs / least([&] { fxq_peak(isa, 10000); }, 1e8));
  }
  printf("\n%-12s %-20s %10s", "", "GMAC/s (us, chunks)", "MMAC");
  for (int32_t isa = PLAIN + 1; isa <= AMX; isa++) printf(" %20s", isa_name(isa));
  for (const LayerRow& row : LAYERS) {
    if (std::string(row.net).find(net) == std::string::npos) continue;
    if (std::string(row.name).find(part) == std::string::npos) continue;
    const Case c = case_of(row, images);
    const double macs = double(c.images) * c.out.view.h * c.out.view.w * row.out * row.in /
                        row.groups * row.kernel * row.kernel;
    printf("\n%-12s %-20s %10.2f", row.net, row.name, macs / 1e6);
    Weights weights(c.layer);
    for (int32_t isa = PLAIN + 1; isa <= AMX; isa++) {
      Step step = c.step(weights);
      const Prepare prepare = kernel_of(CONV, isa);
      if (std::string(isa_name(isa)).find(only) == std::string::npos || !prepare || !prepare(step, c.images)) {
        printf(" %20s", "-");
        continue;
      }
      const double time = time_of(c, step);
      printf(" %5.0f (%7.2f, %3d)", macs / time, time / 1000, step.chunks);
      fflush(stdout);
    }
  }
  puts("");
}
