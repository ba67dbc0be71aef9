// What the checks of a program share. check.cpp goes through a program; the others have an idea each:
// bounds (views lie in their memory), operands (a step's views fit its operator), weights, and order
// (no step reads what the program has not written).
#pragma once
#include <array>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "program.h"

namespace fxq {

// Positions inside a view fit in 31 bits, so that kernels may count in int32.
constexpr int64_t MOST = (int64_t{1} << 31) - 1 - SLACK, MOST_POSITION = 1 << 30;
constexpr int64_t MOST_MEMORY = int64_t{1} << 40;
constexpr int32_t MOST_EXTERNALS = 64;
constexpr int32_t MOST_PRODUCTS = ((int64_t{1} << 31) - 1) / (255 * 255);

// Each stride that a view takes is below 2^40 and each count below 2^31: 128 bits hold all sums.
using Wide = __int128;

inline void require(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}
inline bool between(int64_t low, int64_t x, int64_t high) { return low <= x && x <= high; }
inline bool same_size(const View& a, const View& b) {
  return a.h == b.h && a.w == b.w && a.c == b.c;
}
inline bool is_convolution(int32_t op) { return op == CONV || op == DEPTHWISE || op == TRANSPOSED; }

struct Views {
  const View &in, &other, &out;
};

// Each throws std::invalid_argument with a sentence.
void check_view(const View& view, const Source& source);
void check_packed(const View& view);
void check_operands(const Instruction& code, const Views& views, const Layer* layer);
void check_weights(const Instruction& code, const View& in, const View& out, const Layer& layer);

// The bytes of one image's memory that steps have written, as runs of bytes and as parts of pixels.
class Written {
 public:
  void write(const View& view);
  bool holds(const View& view) const;
  void clear() { parts_.clear(); }

 private:
  using Part = std::tuple<int64_t, int64_t, int64_t>;  // bytes of a pixel, pixels, the first byte
  void add(Part part, int64_t bytes);
  bool has(const Part& part, int64_t bytes) const;
  std::map<Part, int64_t> parts_;
};

// Follows the steps of a program in their order, each one checked before.
class Order {
 public:
  explicit Order(const Source& source);
  void follow(const Instruction& code);

 private:
  void check_read(const View& view) const;
  const Source& source_;
  Written lane_, wide_;
  std::set<std::array<int64_t, 10>> outputs_;  // what steps have written of the caller's tensors
  std::vector<bool> is_output_;
};

}  // namespace fxq
