// A layer's weights: checked when made, packed on demand, kept in huge pages where there are any.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "native.h"

namespace fxq {

// Memory aligned to 64 bytes (2 MiB from 1 MiB on, asking for huge pages), zeroed, SLACK behind.
class Block {
 public:
  explicit Block(int64_t bytes);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_;
  int64_t bytes_;
};

// Of one run of weights, plain and without signs.
int64_t sum_of(const int8_t* weights, int64_t count);
int64_t absolute_sum_of(const int8_t* weights, int64_t count);

class Weights {
 public:
  explicit Weights(const Layer& layer);  // copies what `layer` points to, or borrows the weights

  Layer layer;                           // its pointers lead to the copies, or what was borrowed
  std::vector<int32_t> bias;             // with -zero_in * (sum of the weights) in it

  // The packed form under a key of the kernel's own; made once, by the first that asks.
  const void* packed(int64_t key, const std::function<std::unique_ptr<Block>(const Weights&)>& make);

 private:
  std::vector<int8_t> weight_;
  std::vector<int32_t> given_bias_;
  std::vector<float> multiplier_, addend_;
  std::map<int64_t, std::unique_ptr<Block>> forms_;
  std::mutex lock_;
};

}  // namespace fxq
