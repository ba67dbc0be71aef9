// Memory for weights and arenas, and a layer's weights with the forms that kernels packed them in.
#include "weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace fxq {
namespace {

constexpr int64_t HUGE_PAGE = 2 << 20, MAPPED = 1 << 20;  // mapped, not allocated, from here on

int64_t up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// A range of whole huge pages: more is mapped, and what lies before and behind is given back.
uint8_t* map(int64_t bytes) {
  void* got = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<uint8_t*>(got);
  const int64_t before = up(reinterpret_cast<int64_t>(start), HUGE_PAGE) -
                         reinterpret_cast<int64_t>(start);
  if (before) munmap(start, before);
  munmap(start + before + bytes, HUGE_PAGE - before);
  madvise(start + before, bytes, MADV_HUGEPAGE);  // a wish: ordinary pages do as well
  return start + before;
}

uint8_t* allocate(int64_t bytes) {
  void* got = std::aligned_alloc(64, bytes);
  if (!got) throw std::bad_alloc();
  std::memset(got, 0, bytes);
  return static_cast<uint8_t*>(got);
}

// In 32 bits, which compilers know how to do in vectors, for as long as they hold the sum.
template <class Term>
int64_t sums(const int8_t* weights, int64_t count, Term term) {
  int64_t all = 0;
  for (int64_t start = 0; start < count; start += 1 << 20) {
    int32_t sum = 0;
    for (int64_t i = start; i < std::min(count, start + (1 << 20)); ++i) sum += term(weights[i]);
    all += sum;
  }
  return all;
}

}  // namespace

int64_t sum_of(const int8_t* weights, int64_t count) {
  return sums(weights, count, [](int32_t w) { return w; });
}

int64_t absolute_sum_of(const int8_t* weights, int64_t count) {
  return sums(weights, count, [](int32_t w) { return w < 0 ? -w : w; });
}

Block::Block(int64_t bytes) : bytes_(bytes) {
  const int64_t all = bytes + SLACK;
  data_ = all >= MAPPED ? map(up(all, HUGE_PAGE)) : allocate(up(all, 64));
}

Block::~Block() {
  const int64_t all = bytes_ + SLACK;
  if (all >= MAPPED)
    munmap(data_, up(all, HUGE_PAGE));
  else
    std::free(data_);
}

Weights::Weights(const Layer& given)
    : layer(given),
      given_bias_(given.bias, given.bias + given.outputs),
      multiplier_(given.multiplier, given.multiplier + given.outputs),
      addend_(given.addend, given.addend ? given.addend + given.outputs : nullptr) {
  const int64_t kernel = int64_t{given.kh} * given.kw, all = given.inputs * kernel * given.outputs;
  if (!given.borrowed) {
    weight_.assign(given.weight, given.weight + all);
    layer.weight = weight_.data();
  }
  layer.bias = given_bias_.data();
  layer.multiplier = multiplier_.data();
  if (given.addend) layer.addend = addend_.data();
  // A transposed layer is [inputs * groups][outputs / groups][kernel]: see native.h.
  const int64_t group = given.outputs / given.groups;
  for (int64_t o = 0; o < given.outputs; ++o) {
    const int64_t together = given.transposed ? 1 : given.inputs;  // whose weights lie in one run
    int64_t sum = 0;
    for (int64_t i = 0; i < given.inputs; i += together) {
      const int64_t row = given.transposed ? (o / group * given.inputs + i) * group + o % group
                                           : o * given.inputs;
      sum += sum_of(layer.weight + row * kernel, together * kernel);
    }
    bias.push_back(static_cast<int32_t>(given_bias_[o] - given.zero_in * sum));
  }
}

const void* Weights::packed(int64_t key,
                            const std::function<std::unique_ptr<Block>(const Weights&)>& make) {
  std::lock_guard<std::mutex> guard(lock_);
  auto& form = forms_[key];
  if (!form) form = make(*this);
  return form->data();
}

}  // namespace fxq
