// Random chains of steps give the same bits from every instruction set, and for any number of
// threads: whole images, shared images, steps of all images, values in place and beside others.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "api.h"
#include "isa.h"

namespace {

using namespace fxq;

constexpr int64_t SLOT = 300000;  // bytes of a value: they take turns with three slots

struct Random {
  uint64_t state;
  uint32_t next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 33);
  }
  int32_t in(int32_t low, int32_t high) { return low + static_cast<int32_t>(next() % (high - low + 1)); }
  bool one_in(int32_t n) { return next() % n == 0; }
};

struct Chain {
  Random random;
  int32_t images;
  std::vector<View> views;
  std::vector<Instruction> code;
  std::vector<void*> layers;
  std::vector<uint8_t> tables;

  explicit Chain(uint64_t seed) : random{seed * 77 + 5} {
    images = random.in(1, 9);
    for (int32_t i = 0; i < 512; ++i) tables.push_back(static_cast<uint8_t>(random.next()));
    enter();
    for (int32_t steps = random.in(1, 8); steps; --steps) step();
    leave();
  }
  ~Chain() {
    for (void* layer : layers) fxq_layer_free(layer);
  }

  View& last() { return views.back(); }

  // A value in the slot behind the last one's, with a border, and perhaps with channels of others beside its own.
  View value(int32_t space, int32_t h, int32_t w, int32_t c) {
    View v{};
    v.space = space, v.element = 1, v.channel = 1;
    v.h = h, v.w = w, v.c = c;
    v.zero_point = random.in(0, 255);
    v.top = random.in(0, 2), v.left = random.in(0, 2);
    v.bottom = random.in(0, 2), v.right = random.in(0, 2);
    const int32_t beside = random.one_in(3) ? random.in(1, 40) : 0, before = random.in(0, beside);
    v.pixel = c + beside;
    v.row = v.pixel * (w + v.left + v.right);
    const int64_t slot = views.empty() ? 0 : (last().offset / SLOT + 1) % 3;
    v.offset = slot * SLOT + v.top * v.row + v.left * v.pixel + before;
    v.image = space == WIDE ? 3 * SLOT : 0;
    return v;
  }

  View floats(int32_t space, const View& like) {
    View v{};
    v.space = space, v.element = 4, v.channel = 4;
    v.h = like.h, v.w = like.w, v.c = like.c;
    v.pixel = 4 * v.c, v.row = v.pixel * v.w, v.image = v.row * v.h;
    if (random.one_in(2)) v.pixel = 4, v.row = 4 * v.w, v.channel = v.row * v.h;  // NCHW
    return v;
  }

  Instruction plain(int32_t op) {
    Instruction code{};
    code.op = op;
    code.other = code.layer = -1;
    code.table = op == TABLE || random.one_in(3) ? random.in(0, 1) : -1;
    code.kh = code.kw = code.sh = code.sw = code.dh = code.dw = code.groups = 1;
    code.zero_in = last().zero_point;
    code.zero_out = random.in(0, 255);
    code.low = random.in(0, 20), code.high = random.in(200, 255);
    code.m0 = 0.004f * random.in(1, 300), code.m1 = 0.004f * random.in(1, 300);
    code.in = static_cast<int32_t>(views.size()) - 1;
    return code;
  }

  void append(Instruction made, const View& out) {
    made.out = static_cast<int32_t>(views.size());
    views.push_back(out);
    if (views[made.in].space != LANE && out.space != LANE && random.one_in(2)) made.flags |= WIDE_STEP;
    code.push_back(made);
  }

  int32_t space() { return last().space == WIDE || random.one_in(4) ? WIDE : LANE; }

  void enter() {
    const int32_t h = random.in(1, 17), w = random.in(1, 17), c = random.in(1, 70);
    const View to = value(random.one_in(3) ? WIDE : LANE, h, w, c);
    views.push_back(floats(EXTERNAL, to));
    Instruction made = plain(ENTER);
    made.table = -1;
    append(made, to);
  }

  void leave() {
    const View out = floats(EXTERNAL + 1, last());
    Instruction made = plain(LEAVE);
    made.table = -1;
    append(made, out);
  }

  void step() {
    const int32_t op = random.in(CONV, TRANSPOSED);
    if (op == CONV || op == DEPTHWISE || op == TRANSPOSED) return weighted(op);
    if (op == ADD || op == MULTIPLY) return binary(op);
    if (op == MAX_POOL || op == AVERAGE_POOL) return pool(op);
    const View in = last();
    if (op == NEAREST && in.c > 300) return;
    Instruction made = plain(op);
    View out = value(space(), in.h, in.w, in.c);
    if (op == TABLE && random.one_in(3)) out = in;  // in place
    if (op == SHUFFLE) made.groups = in.c % 2 ? in.c : 2;
    const int32_t h = random.in(1, 20), w = random.in(1, 20);
    if (op == NEAREST) out = value(space(), h, w, in.c);
    if (op == FLATTEN && in.h * in.w * in.c > 5000) return;
    if (op == FLATTEN) out = value(space(), 1, 1, in.h * in.w * in.c);
    if (op != TABLE) made.table = -1;
    append(made, out);
  }

  void binary(int32_t op) {
    const View in = last();
    Instruction made = plain(op);
    made.other = made.in;
    made.zero_other = in.zero_point;
    append(made, random.one_in(2) ? in : value(space(), in.h, in.w, in.c));
  }

  static int32_t fitting(int32_t size, int32_t before, int32_t behind, int32_t span, int32_t stride) {
    return size + before + behind < span ? 0 : (size + before + behind - span) / stride + 1;
  }

  // Kernel, stride and padding that the input's border holds; false where nothing fits.
  bool window(Instruction& made, int32_t& h, int32_t& w) {
    const View in = last();
    made.kh = random.in(1, 4), made.kw = random.one_in(4) ? random.in(1, 5) : made.kh;
    made.sh = random.in(1, 2), made.sw = random.one_in(4) ? random.in(1, 3) : made.sh;
    if (made.op == CONV || made.op == DEPTHWISE) made.dh = random.one_in(4) ? 2 : 1;
    made.dw = made.dh;
    made.ph = std::min(random.in(0, in.top), (made.kh - 1) * made.dh);
    made.pw = std::min(random.in(0, in.left), (made.kw - 1) * made.dw);
    const int32_t below = std::min(random.in(0, in.bottom), (made.kh - 1) * made.dh);
    const int32_t right = std::min(random.in(0, in.right), (made.kw - 1) * made.dw);
    h = fitting(in.h, made.ph, below, (made.kh - 1) * made.dh + 1, made.sh);
    w = fitting(in.w, made.pw, right, (made.kw - 1) * made.dw + 1, made.sw);
    return h > 0 && w > 0;
  }

  void pool(int32_t op) {
    Instruction made = plain(op);
    int32_t h, w;
    if (!window(made, h, w)) return;
    if (op == AVERAGE_POOL) made.flags |= random.one_in(3) ? INCLUDE_PAD : random.one_in(3) ? ADAPTIVE : 0;
    append(made, value(space(), h, w, last().c));
  }

  void weighted(int32_t op) {
    Instruction made = plain(op);
    int32_t h, w;
    if (!window(made, h, w)) return;
    if (op == TRANSPOSED) h = random.in(1, 20), w = random.in(1, 20);
    Layer layer{};
    layer.groups = op == DEPTHWISE ? last().c : last().c % 2 || random.one_in(2) ? 1 : 2;
    layer.inputs = last().c / layer.groups;
    layer.outputs = op == DEPTHWISE ? last().c : layer.groups * random.in(1, 40);
    layer.kh = made.kh, layer.kw = made.kw;
    layer.transposed = op == TRANSPOSED;
    layer.zero_in = made.zero_in;
    made.groups = layer.groups;
    std::vector<int8_t> weight(int64_t{layer.outputs} * layer.inputs * layer.kh * layer.kw);
    for (auto& x : weight) x = static_cast<int8_t>(random.in(-128, 127));
    std::vector<int32_t> bias(layer.outputs);
    for (auto& b : bias) b = random.in(-20000, 20000);
    const float unit = 60.0f / (1 + 9000.0f * layer.inputs * layer.kh * layer.kw);
    std::vector<float> multiplier(layer.outputs);
    for (auto& m : multiplier) m = unit * random.in(1, 40);
    layer.weight = weight.data(), layer.bias = bias.data(), layer.multiplier = multiplier.data();
    char error[256];
    made.layer = static_cast<int32_t>(layers.size());
    layers.push_back(fxq_layer_new(&layer, error, sizeof error));
    append(made, value(space(), h, w, layer.outputs));
  }

  int64_t floats_of(int32_t view) const {
    const View& v = views[view];
    return int64_t{v.h} * v.w * v.c * images;
  }

  // What the program writes; empty, with a sentence, where it is refused.
  std::vector<float> run(int32_t isa, int32_t threads) const {
    char error[256] = "";
    void* program = fxq_program_new(
        code.data(), static_cast<int32_t>(code.size()), views.data(),
        static_cast<int32_t>(views.size()), layers.data(), static_cast<int32_t>(layers.size()),
        tables.data(), 2, 3 * SLOT, 3 * SLOT, images, isa, threads, error, sizeof error);
    if (!program) {
      std::printf("refused: %s\n", error);
      return {};
    }
    const int32_t end = static_cast<int32_t>(views.size()) - 1;
    std::vector<float> in(floats_of(0)), out(floats_of(end), -1.0f);
    Random numbers{random.state};
    for (auto& x : in) x = 0.01f * numbers.in(-9999, 9999);
    void* tensors[] = {in.data(), out.data()};
    const int64_t bytes[] = {int64_t(in.size()) * 4, int64_t(out.size()) * 4};
    for (int32_t twice = 0; twice < 2; ++twice)  // the second time in memory that was used
      if (fxq_program_run(program, tensors, bytes, 2, threads)) out.clear();
    fxq_program_free(program);
    return out;
  }

  void print() const {
    for (const Instruction& c : code) {
      const View &a = views[c.in], &b = views[c.out];
      std::printf("  op %d flags %d: %dx%dx%d (space %d) -> %dx%dx%d (space %d), kernel %dx%d stride "
                  "%dx%d dilation %d padding %dx%d groups %d table %d\n", c.op, c.flags, a.h, a.w,
                  a.c, a.space, b.h, b.w, b.c, b.space, c.kh, c.kw, c.sh, c.sw, c.dh, c.ph, c.pw,
                  c.groups, c.table);
    }
  }
};

uint64_t digest = 14695981039346656037u;  // FNV-1a of all results: other machines print the same

void add_to_digest(const std::vector<float>& numbers) {
  for (size_t i = 0; i < 4 * numbers.size(); ++i)
    digest = (digest ^ reinterpret_cast<const uint8_t*>(numbers.data())[i]) * 1099511628211u;
}

bool good(uint64_t seed) {
  Chain chain(seed);
  const std::vector<float> expected = chain.run(PLAIN, 1);
  if (expected.empty()) return chain.print(), false;
  add_to_digest(expected);
  for (int32_t isa = PLAIN; isa <= AMX; ++isa) {
    if (!has_isa(isa)) continue;
    const int32_t threads = 1 + static_cast<int32_t>((seed + isa) % 5);
    if (chain.run(isa, threads) == expected) continue;
    std::printf("seed %d: %s with %d threads and %d images differs\n", static_cast<int32_t>(seed),
                fxq_isa_name(isa), threads, chain.images);
    return chain.print(), false;
  }
  return true;
}

}  // namespace

int main(int count, char** given) {
  const int32_t chains = count > 1 ? std::atoi(given[1]) : 200;
  const uint64_t first = count > 2 ? std::strtoull(given[2], nullptr, 10) : 1;
  int32_t bad = 0;
  for (int32_t i = 0; i < chains && bad < 5; ++i) bad += !good(first + i);
  std::printf("%d of %d programs are wrong, bits %016llx\n", bad, chains,
              static_cast<unsigned long long>(digest));
  return bad != 0;
}
