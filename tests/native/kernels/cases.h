// Steps with random contents in guarded memory, for other_test.cpp and other_bench.cpp.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "families.h"
#include "weights.h"

namespace fxq {

inline std::mt19937& generator() {
  static std::mt19937 g(1);
  return g;
}
inline int32_t draw(int32_t low, int32_t high) {  // both included
  return std::uniform_int_distribution<int32_t>(low, high)(generator());
}
inline bool chance(int32_t percent) { return draw(1, 100) <= percent; }

// `bytes` that end (`slack` later), or begin, at a page that nobody may touch.
class Guarded {
 public:
  Guarded(int64_t bytes, bool at_end, int64_t slack) {
    const int64_t page = sysconf(_SC_PAGESIZE), used = bytes + slack, pages = (used + page - 1) / page;
    size_ = (pages + 2) * page;
    memory_ =
        static_cast<uint8_t*>(mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED || mprotect(memory_ + page, pages * page, PROT_READ | PROT_WRITE))
      abort();
    used_ = used;
    data = memory_ + page + (at_end ? pages * page - used : 0);
    for (int64_t i = 0; i < used; ++i) data[i] = uint8_t(generator()());
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(memory_, size_); }
  int64_t used() const { return used_; }
  uint8_t* data;

 private:
  uint8_t* memory_;
  int64_t size_, used_;
};

struct Tensor {
  View view{};
  int64_t first = 0;  // bytes from the memory's begin to pixel (0, 0) of the first image
  int64_t bytes = 0;
};

// NHWC bytes with a border and `gap` more bytes at each pixel.
inline Tensor bytes_tensor(int32_t images, int32_t h, int32_t w, int32_t c, int32_t gap = 0,
                           int32_t top = 0, int32_t left = 0, int32_t bottom = 0,
                           int32_t right = 0) {
  Tensor t;
  const int64_t pixel = c + gap, row = pixel * (left + w + right), image = row * (top + h + bottom);
  t.view = {LANE, draw(0, 255), 0, image, h, w, c, 1, row, pixel, 1, top, left, bottom, right};
  t.first = top * row + left * pixel;
  t.bytes = image * images;
  return t;
}

inline Tensor float_tensor(int32_t images, int32_t h, int32_t w, int32_t c, bool channels_last) {
  Tensor t;
  const int64_t image = 4ll * h * w * c;
  t.view = {EXTERNAL, 0, 0, image, h, w, c, 4, 0, 0, 0, 0, 0, 0, 0};
  t.view.channel = channels_last ? 4 : 4ll * h * w;
  t.view.pixel = channels_last ? 4ll * c : 4;
  t.view.row = t.view.pixel * w;
  t.bytes = image * images;
  return t;
}

struct Case {
  Step step{};
  Tensor in, other, out;
  int32_t images = 1;
  bool in_place = false;
  std::shared_ptr<Weights> weights;
  std::vector<uint8_t> table;
};

inline void finish_case(Case& c, bool with_table) {
  Step& s = c.step;
  s.in = c.in.view, s.other = c.other.view, s.out = c.out.view;
  s.code.zero_in = s.in.zero_point, s.code.zero_other = s.other.zero_point;
  s.code.zero_out = s.out.zero_point;
  s.code.other = c.other.bytes ? 1 : -1;
  s.code.low = chance(30) ? draw(0, 255) : chance(50) ? s.code.zero_out : 0;
  s.code.high = chance(30) ? draw(s.code.low, 255) : 255;
  s.weights = c.weights.get();
  c.table.resize(256);
  for (auto& t : c.table) t = uint8_t(generator()());
  s.table = with_table ? c.table.data() : nullptr;
}

inline void fill_floats(uint8_t* to, int64_t bytes) {
  auto* x = reinterpret_cast<float*>(to);
  for (int64_t i = 0; i < bytes / 4; ++i) x[i] = float(draw(-40000, 40000)) / 100.0f;
}

inline void add_weights(Case& c, int32_t channels, int32_t kh, int32_t kw) {
  std::vector<int8_t> w(int64_t(channels) * kh * kw);
  std::vector<int32_t> bias(channels);
  std::vector<float> multiplier(channels);
  for (auto& x : w) x = int8_t(draw(-128, 127));
  for (auto& x : bias) x = draw(-100000, 100000);
  for (auto& x : multiplier) x = float(draw(1, 1 << 20)) / float(1 << 20) * 0.01f;
  if (chance(20)) multiplier[draw(0, channels - 1)] = 1e6f;
  if (chance(20)) {
    const int32_t dead = draw(0, channels - 1);
    bias[dead] = draw(INT32_MIN / 2, INT32_MAX / 2), multiplier[dead] = 1e-8f;
  }
  const Layer layer{channels, 1,           channels,         kh, kw, 0, c.in.view.zero_point, 0,
                    w.data(), bias.data(), multiplier.data(), multiplier.data()};
  c.weights = std::make_shared<Weights>(layer);
}

}  // namespace fxq
