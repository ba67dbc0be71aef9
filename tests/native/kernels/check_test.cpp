// Random programs with random numbers in them are refused, or run without leaving their memory.
// The address sanitizer is the judge; without it, a crash is.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "api.h"

namespace {

using namespace fxq;

constexpr int64_t SLOT = 30000, LANE_BYTES = 3 * SLOT, WIDE_BYTES = 3 * SLOT,
                  TENSOR_BYTES = 400000;
constexpr int32_t LAYERS = 8;

struct Random {
  uint64_t state;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33);
  }
  int32_t in(int32_t low, int32_t high) { return low + static_cast<int32_t>(next() % (high - low + 1)); }
  bool one_in(int32_t n) { return next() % n == 0; }
};

struct Made {
  Layer layer;
  void* handle;
};

Made make_layer(Random& random, int32_t which) {
  Layer layer{};
  const bool depthwise = which % 3 == 0;
  layer.groups = depthwise ? random.in(1, 40) : random.in(1, 3);
  layer.inputs = depthwise ? 1 : random.in(1, 20);
  layer.outputs = depthwise ? layer.groups : layer.groups * random.in(1, 20);
  layer.kh = random.in(1, 3);
  layer.kw = random.in(1, 3);
  layer.transposed = which % 3 == 1;
  layer.zero_in = random.in(0, 255);
  const int64_t weights = int64_t{layer.outputs} * layer.inputs * layer.kh * layer.kw;
  std::vector<int8_t> weight(weights);
  for (auto& w : weight) w = static_cast<int8_t>(random.in(-128, 127));
  std::vector<int32_t> bias(layer.outputs, 100);
  std::vector<float> multiplier(layer.outputs, 0.01f);
  layer.weight = weight.data();
  layer.bias = bias.data();
  layer.multiplier = multiplier.data();
  char error[256];
  return {layer, fxq_layer_new(&layer, error, sizeof error)};
}

// Views of one step lie in slots of their own, but for accidents.
View make_view(Random& random, int32_t slot, int32_t h, int32_t w, int32_t c, int32_t space,
               int32_t element) {
  View v{};
  v.space = space;
  v.h = h, v.w = w, v.c = c;
  v.element = element;
  v.channel = element;
  const int32_t border = element == 1 && space < EXTERNAL ? random.in(0, 3) : 0;
  v.top = v.left = v.bottom = v.right = border;
  v.pixel = int64_t{c} * element + (random.one_in(4) ? 4 * random.in(0, 8) : 0);
  v.row = v.pixel * (w + 2 * border);
  v.offset = border * (v.row + v.pixel) + 4 * random.in(0, 500);
  if (space < EXTERNAL) v.offset += slot * SLOT;
  v.image = space == WIDE ? WIDE_BYTES : v.row * h;
  v.zero_point = element == 1 ? random.in(0, 255) : 0;
  return v;
}

struct Draft {
  std::vector<View> views;
  std::vector<Instruction> code;
};

int32_t size_out(int32_t in, int32_t k, int32_t stride, int32_t pad) {
  return std::max(1, (in + 2 * pad - k) / stride + 1);
}

void add_step(Random& random, Draft& draft, const std::vector<Made>& layers) {
  Instruction code{};
  code.op = random.one_in(8) ? MATMUL : random.in(ENTER, TRANSPOSED);
  code.kh = random.in(1, 3), code.kw = random.in(1, 3);
  code.sh = random.in(1, 2), code.sw = random.in(1, 2);
  code.dh = code.dw = 1;
  code.ph = random.in(0, 1), code.pw = random.in(0, 1);
  code.groups = 1;
  code.low = random.in(0, 3), code.high = random.in(3, 255);
  code.m0 = 0.5f, code.m1 = 0.25f;
  code.other = code.layer = -1;
  code.table = random.in(-1, 0);
  int32_t h = random.in(1, 9), w = random.in(1, 9), c = random.in(1, 70);
  const bool wide = random.one_in(4);
  const int32_t space = wide ? WIDE : LANE;
  int32_t outs = c, oh = h, ow = w;
  if (code.op == CONV || code.op == DEPTHWISE || code.op == TRANSPOSED) {
    const int32_t wanted = code.op == DEPTHWISE ? 0 : code.op == TRANSPOSED ? 1 : 2;
    code.layer = wanted + 3 * random.in(0, LAYERS / 3 - 1);
    const Layer& layer = layers[code.layer].layer;
    c = layer.inputs * layer.groups, outs = layer.outputs;
    code.kh = layer.kh, code.kw = layer.kw, code.groups = layer.groups;
    code.zero_in = layer.zero_in;
    if (random.one_in(4)) code.flags |= RESIDUAL;
    if (code.op != DEPTHWISE && random.one_in(4)) code.flags |= FLOAT_OUT, code.table = -1;
  }
  const bool windowed = code.layer >= 0 || code.op == MAX_POOL || code.op == AVERAGE_POOL;
  if (windowed) {
    oh = size_out(h, code.kh, code.sh, code.ph);
    ow = size_out(w, code.kw, code.sw, code.pw);
  }
  if (code.op == NEAREST) oh = random.in(1, 12), ow = random.in(1, 12);
  if (code.op == FLATTEN) outs = h * w * c, oh = ow = 1;
  if (code.op == MATMUL) {
    outs = random.in(1, 70), code.table = -1;
    if (random.one_in(2)) code.flags |= FLOAT_OUT;
  }
  if (code.op == SHUFFLE) code.groups = c % 2 ? 1 : 2;
  const bool floats_in = code.op == ENTER && random.in(0, 1);
  const bool floats_out = code.op == LEAVE || code.flags & FLOAT_OUT;
  View in = make_view(random, 0, h, w, c, code.op == ENTER ? EXTERNAL : space, floats_in ? 4 : 1);
  if (code.layer >= 0) in.zero_point = code.zero_in;
  code.in = static_cast<int32_t>(draft.views.size());
  draft.views.push_back(in);
  if (code.op == ADD || code.op == MULTIPLY || code.flags & RESIDUAL) {
    const bool spread = code.op == MULTIPLY && random.one_in(2);
    code.other = static_cast<int32_t>(draft.views.size());
    draft.views.push_back(make_view(random, 1, spread ? 1 : oh, spread ? 1 : ow, outs, space, 1));
  }
  if (code.op == MATMUL) {
    code.other = static_cast<int32_t>(draft.views.size());
    draft.views.push_back(make_view(random, 1, h, outs, c, space, 1));
  }
  code.out = static_cast<int32_t>(draft.views.size());
  const bool outside = floats_out || random.one_in(5);
  draft.views.push_back(make_view(random, 2, oh, ow, outs, outside ? EXTERNAL + 1 : space,
                                  floats_out ? 4 : 1));
  if (code.other >= 0 && random.one_in(4)) code.out = code.other;  // in place
  if (wide) code.flags |= WIDE_STEP;
  draft.code.push_back(code);
}

int32_t strange(Random& random, int32_t now) {
  const int32_t values[] = {-1, 0, 1, 2, 3, 4, 64, 255, 256, 4096, 1 << 20, 1 << 30, 2147483647,
                            -2147483647 - 1, now + 1, now - 1, now / 2};
  return values[random.next() % (sizeof values / sizeof *values)];
}

// Overwrites a 32-bit word of a view or an instruction.
template <class T>
void disturb(Random& random, std::vector<T>& rows) {
  auto* words = reinterpret_cast<uint8_t*>(&rows[random.next() % rows.size()]);
  const size_t at = 4 * (random.next() % (sizeof(T) / 4));
  int32_t word;
  std::memcpy(&word, words + at, 4);
  word = strange(random, word < 2147483647 && word > -2147483647 ? word : 0);
  std::memcpy(words + at, &word, 4);
}

// A step that writes all memory of an image: what later steps read is then this program's.
void fill(Draft& draft, int32_t space) {
  View v{};
  v.h = v.w = v.element = v.channel = 1;
  v.c = int32_t(LANE_BYTES);
  v.row = v.pixel = v.image = LANE_BYTES;
  Instruction code{};
  code.op = TABLE, code.high = 255, code.other = code.layer = code.table = -1;
  code.in = static_cast<int32_t>(draft.views.size()), code.out = code.in + 1;
  for (const int32_t to : {int32_t(EXTERNAL), space}) v.space = to, draft.views.push_back(v);
  draft.code.push_back(code);
}

bool accepted(Random& random, const std::vector<Made>& layers, std::string& last) {
  Draft draft;
  fill(draft, WIDE);
  for (int32_t i = random.in(1, 4); i; --i) {
    if (!random.one_in(10)) fill(draft, LANE);
    add_step(random, draft, layers);
  }
  for (int32_t i = random.in(0, 2); i; --i) disturb(random, draft.views);
  for (int32_t i = random.in(0, 2); i; --i) disturb(random, draft.code);
  void* handles[LAYERS];
  for (int32_t i = 0; i < LAYERS; ++i) handles[i] = layers[i].handle;
  uint8_t table[256] = {1, 2, 3};
  char error[256] = "";
  const int32_t images = random.in(1, 4);
  int32_t isa = fxq_best_isa();
  if (random.one_in(2)) isa = 0;
  void* program = fxq_program_new(
      draft.code.data(), static_cast<int32_t>(draft.code.size()), draft.views.data(),
      static_cast<int32_t>(draft.views.size()), handles, LAYERS, table, 1, LANE_BYTES, WIDE_BYTES,
      images, isa, random.in(1, 3), error, sizeof error);
  if (!program) {
    last = error;
    return false;
  }
  std::unique_ptr<uint8_t[]> memory[2];
  void* tensors[64];
  int64_t bytes[64];
  for (auto& part : memory) part.reset(new uint8_t[TENSOR_BYTES]());
  for (int32_t k = 0; k < 64; ++k) tensors[k] = memory[k & 1].get(), bytes[k] = TENSOR_BYTES;
  const int32_t result = fxq_program_run(program, tensors, bytes, 64, random.in(1, 3));
  fxq_program_free(program);
  last = "error of a run";
  return result == 0;
}

}  // namespace

int main(int count, char** given) {
  const int32_t programs = count > 1 ? std::atoi(given[1]) : 3000;
  Random random{count > 2 ? std::strtoull(given[2], nullptr, 10) : 1};
  std::vector<Made> layers;
  for (int32_t i = 0; i < LAYERS; ++i) layers.push_back(make_layer(random, i));
  int32_t good = 0;
  for (int32_t i = 0; i < programs; ++i) {
    std::string last;
    good += accepted(random, layers, last);
    if (count > 3) std::printf("%s\n", last.c_str());
  }
  for (const Made& made : layers) fxq_layer_free(made.handle);
  std::printf("%d of %d programs ran\n", good, programs);
  return good * 8 < programs;  // a test of refusals alone would be none
}
