// A convolution with random numbers in guarded memory, for dense_test.cpp and dense_bench.cpp.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "dense.h"
#include "isa.h"
#include "weights.h"

struct Random {
  std::mt19937_64 bits;
  int32_t in(int32_t low, int32_t high) {
    return low + int32_t(bits() % uint64_t(int64_t(high) - low + 1));
  }
  bool one_in(int32_t n) { return in(1, n) == 1; }
};

// Bytes with a page that faults behind SLACK (or in front, so that both ends are tried).
class Guarded {
 public:
  Guarded(int64_t bytes, bool front) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t body = (bytes + fxq::SLACK + page - 1) / page * page;
    size_ = body + 2 * page;
    base_ = static_cast<uint8_t*>(
        mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (mprotect(base_ + page, body, PROT_READ | PROT_WRITE)) abort();
    data = front ? base_ + page : base_ + page + body - fxq::SLACK - bytes;
    this->bytes = bytes;
  }
  ~Guarded() { munmap(base_, size_); }
  Guarded(const Guarded&) = delete;
  void fill(Random& random) {
    for (int64_t i = 0; i < bytes; i++) data[i] = uint8_t(random.bits() >> 24);
  }
  uint8_t* data;
  int64_t bytes;

 private:
  uint8_t* base_;
  int64_t size_;
};

struct Value {  // a view and its memory; `border` in pixels
  fxq::View view;
  int64_t bytes;

  static Value of(int32_t images, int32_t h, int32_t w, int32_t c, int32_t element, int32_t left,
                  int32_t right, int32_t top, int32_t bottom, int32_t wider) {
    Value value{};
    fxq::View& v = value.view;
    v.h = h, v.w = w, v.c = c, v.element = v.channel = element;
    v.top = top, v.left = left, v.bottom = bottom, v.right = right;
    v.pixel = int64_t(c + wider) * element;
    v.row = v.pixel * (left + w + right);
    v.image = v.row * (top + h + bottom);
    v.offset = top * v.row + left * v.pixel + wider / 2 * element;
    value.bytes = v.image * images;
    return value;
  }
};

struct Case {
  fxq::Instruction code{};
  fxq::Layer layer{};
  int32_t images = 1;
  Value in, other, out;
  std::vector<int8_t> weight;
  std::vector<int32_t> bias;
  std::vector<float> multiplier;
  std::vector<uint8_t> table;

  // The kernel is in `code`, the channels in `layer`; borders are those that the kernel reads.
  void lay_out(int32_t h, int32_t w, int32_t wider_in, int32_t wider_out, int32_t border_out) {
    const int32_t out_h = (h + 2 * code.ph - (code.kh - 1) * code.dh - 1) / code.sh + 1;
    const int32_t out_w = (w + 2 * code.pw - (code.kw - 1) * code.dw - 1) / code.sw + 1;
    const int32_t element = code.flags & (fxq::FLOAT_OUT | fxq::SUMS_OUT) ? 4 : 1, b = border_out;
    in = Value::of(images, h, w, layer.inputs * layer.groups, 1, code.pw, code.pw, code.ph, code.ph, wider_in);
    out = Value::of(images, out_h, out_w, layer.outputs, element, b, b, b, b, wider_out);
    other = Value::of(images, out_h, out_w, layer.outputs, 1, 0, b, b, 0, wider_in);
    layer.kh = code.kh, layer.kw = code.kw, layer.zero_in = code.zero_in;
    code.groups = layer.groups;
  }

  void draw_numbers(Random& random) {
    weight.resize(int64_t(layer.outputs) * layer.inputs * layer.kh * layer.kw);
    for (int8_t& w : weight) w = int8_t(random.bits() >> 24);
    bias.resize(layer.outputs), multiplier.resize(layer.outputs);
    const float size = float(layer.inputs * layer.kh * layer.kw);
    for (int32_t& b : bias) b = random.in(-10000, 10000);
    for (float& m : multiplier) m = float(random.in(1, 1000)) / 1000 * 0.02f / std::sqrt(size);
    table.resize(256);
    for (uint8_t& t : table) t = uint8_t(random.bits() >> 24);
    layer.weight = weight.data(), layer.bias = bias.data(), layer.multiplier = multiplier.data();
  }

  fxq::Step step(fxq::Weights& weights) const {
    fxq::Step step{code, in.view, other.view, out.view, &weights, nullptr, 0, nullptr, nullptr, {}};
    if (code.table >= 0) step.table = table.data();
    return step;
  }
};

// The kernel of an instruction set; null where this processor, or the family, has none.
inline fxq::Prepare kernel_of(fxq::Op op, int32_t isa) {
  for (int32_t f = 0; f < fxq::FAMILY_COUNT; f++)
    if (fxq::FAMILIES[f].op == op)
      return fxq::has_isa(isa) ? fxq::FAMILIES[f].prepare[isa] : nullptr;
  return nullptr;
}
