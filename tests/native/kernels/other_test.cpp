// Every operator but convolutions: each instruction set gives the plain kernels' bits, reads nothing
// beyond SLACK, and writes nothing but its output.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "cases.h"
#include "isa.h"

using namespace fxq;

namespace {

struct Kernel {
  std::string name;
  Prepare plain, fast;
};

struct Memory {
  Guarded in, other, out;
  Memory(const Case& c, bool at_end)
      : in(c.in.bytes, at_end, slack(c.in)),
        other(std::max<int64_t>(c.other.bytes, 4), at_end, slack(c.other)),
        out(c.out.bytes, at_end, slack(c.out)) {}
  static int64_t slack(const Tensor& t) { return t.view.space == EXTERNAL ? 0 : SLACK; }
};

// Runs the chunks in a random order, on scratch memory full of NaN.
void run(Case& c, Memory& m, uint8_t* out) {
  std::vector<int32_t> order(c.step.chunks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), generator());
  auto* scratch = static_cast<uint8_t*>(aligned_alloc(64, SCRATCH));
  std::memset(scratch, 255, SCRATCH);
  const uint8_t* in = c.in_place ? out : m.in.data;
  const Operands o{in + c.in.first, m.other.data + c.other.first, out + c.out.first, c.images};
  for (int32_t chunk : order) c.step.run(c.step, o, chunk, scratch);
  free(scratch);
}

bool check(const Kernel& kernel, Case& c) {
  const bool at_end = chance(70);
  Memory m(c, at_end);
  if (c.other.view.element == 4) fill_floats(m.other.data, c.other.bytes);
  if ((c.step.code.op == ENTER || c.step.code.op == RANGE) && c.in.view.element == 4) {
    auto* x = reinterpret_cast<float*>(m.in.data);
    const float odd[] = {NAN, INFINITY, -INFINITY, 0.5f, -0.5f, 1e30f, -1e30f, 2.5f};
    for (int64_t i = 0; i < c.in.bytes / 4; ++i)
      x[i] = chance(5) ? odd[draw(0, 7)] : float(draw(-40000, 40000)) / 100.0f;
  }
  if (c.in_place) std::memcpy(m.out.data, m.in.data, m.in.used());
  Guarded expected(c.out.bytes, at_end, Memory::slack(c.out));
  std::memcpy(expected.data, m.out.data, m.out.used());
  if (!kernel.plain(c.step, c.images)) return false;
  run(c, m, expected.data);
  c.step.numbers.clear(), c.step.packed = nullptr;
  if (!kernel.fast(c.step, c.images)) return printf("  %s refused\n", kernel.name.c_str()), true;
  run(c, m, m.out.data);
  return std::memcmp(expected.data, m.out.data, m.out.used()) == 0;
}

int32_t channels() {
  const int32_t usual[] = {1,  2,  3,  4,  8,   16,  24,  32,  40,  48, 58,
                           64, 72, 88, 96, 116, 120, 144, 192, 200, 240};
  return chance(60) ? usual[draw(0, 20)] : draw(1, 300);
}

Case pointwise(Op op) {
  Case c;
  c.images = chance(20) ? draw(2, 4) : 1;
  const int32_t h = draw(1, 9), w = draw(1, 20), n = channels();
  const bool one = op == MULTIPLY && chance(70);
  c.in = bytes_tensor(c.images, h, w, n, chance(30) ? draw(1, 70) : 0, draw(0, 1), draw(0, 2),
                      draw(0, 1), draw(0, 2));
  if (op != TABLE)
    c.other = bytes_tensor(c.images, one ? 1 : h, one ? 1 : w, n, chance(30) ? draw(1, 9) : 0);
  c.out = bytes_tensor(c.images, h, w, n, chance(30) ? draw(1, 70) : 0, draw(0, 1), draw(0, 2),
                       draw(0, 1), draw(0, 2));
  c.in_place = chance(20);
  if (c.in_place) c.out = c.in;
  c.step.code.m0 = op == ADD ? draw(1, 1000) / 500.f : draw(1, 1000) / 50000.f;
  c.step.code.m1 = draw(1, 1000) / 500.f;
  c.step.code.op = op;
  finish_case(c, op == TABLE ? chance(70) : chance(40));
  return c;
}

Case border(Op op) {
  Case c;
  c.images = chance(20) ? draw(2, 4) : 1;
  const int32_t h = draw(1, 9), w = draw(1, 70), n = chance(50) ? draw(1, 4) : channels();
  Tensor floats = float_tensor(c.images, h, w, n, chance(40));
  Tensor bytes = bytes_tensor(c.images, h, w, n, chance(40) ? draw(1, 9) : 0, draw(0, 1),
                              draw(0, 2), draw(0, 1), draw(0, 2));
  c.in = op == ENTER ? floats : bytes, c.out = op == ENTER ? bytes : floats;
  c.step.code.m0 = draw(1, 1000) / 500.f;
  c.step.code.op = op;
  const bool measured = op == ENTER && chance(30);
  if (measured) c.other = float_tensor(1, 1, 1, 2 * draw(1, 16), true);
  finish_case(c, false);
  if (op == ENTER && !measured && chance(30)) {  // bytes in planes, or as they are
    c.in = bytes_tensor(c.images, h, w, n), c.in.view.space = EXTERNAL;
    if (chance(50)) {
      c.in.view.channel = int64_t(h) * w, c.in.view.pixel = 1, c.in.view.row = w;
    }
    c.table.resize(256 * n);
    for (auto& t : c.table) t = uint8_t(generator()());
    c.step.in = c.in.view, c.step.table = c.table.data(), c.step.code.flags = CHANNEL_TABLES;
  }
  if (measured) c.step.code.flags = MEASURED, c.step.code.low = 0;
  if (measured && c.step.code.high == 0) c.step.code.high = 255;
  return c;
}

// RANGE, and RESCALE of its sums, in place or not.
Case dynamic(Op op) {
  Case c;
  c.images = chance(50) ? draw(2, 40) : 1;
  const int32_t n = chance(50) ? draw(1, 40) : channels();
  c.in = float_tensor(c.images, 1, 1, n, true);
  c.step.code.op = op;
  if (op == RANGE) {
    c.out = float_tensor(1, 1, 1, 2 * draw(1, std::min(c.images, 16)), true);
    finish_case(c, false);
    return c;
  }
  c.out = c.in, c.in_place = chance(70);
  c.other = float_tensor(1, 1, 1, 2 * draw(1, 16), true);
  add_weights(c, n, 1, 1);
  finish_case(c, false);
  c.step.code.flags = MEASURED, c.step.code.low = 0, c.step.code.high = chance(70) ? 255 : 15;
  c.step.code.zero_out = draw(0, 1);
  return c;
}

// Matrices of the caller, some of them transposed: nothing lies behind them.
Tensor matrices(int32_t images, int32_t h, int32_t w, int32_t c) {
  const bool turned = chance(40);
  Tensor t = bytes_tensor(images, h, turned ? c : w, turned ? w : c, chance(30) ? draw(1, 70) : 0);
  t.view.space = EXTERNAL;
  if (turned) std::swap(t.view.pixel, t.view.channel), std::swap(t.view.w, t.view.c);
  return t;
}

Case matmul() {
  Case c;
  c.images = chance(40) ? draw(2, 4) : 1;
  const int32_t h = draw(1, 4), rows = draw(1, 40), columns = chance(50) ? draw(1, 20) : draw(1, 300);
  const int32_t depth = chance(80) ? channels() : draw(1, 9000);
  c.in = matrices(c.images, h, rows, depth), c.other = matrices(c.images, h, columns, depth);
  const bool floats = chance(60);
  c.out = floats ? float_tensor(c.images, h, rows, columns, true)
                 : bytes_tensor(c.images, h, rows, columns, chance(30) ? draw(1, 9) : 0);
  c.step.code.op = MATMUL, c.step.code.m0 = draw(1, 1000) / 1e6f;
  finish_case(c, false);
  if (floats) c.step.code.flags = FLOAT_OUT;
  return c;
}

int32_t outputs(int32_t size, int32_t k, int32_t stride, int32_t dilation, int32_t padding,
                bool ceil_mode) {
  const int32_t span = size + 2 * padding - (k - 1) * dilation - 1;
  int32_t out = (span + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= size + padding) --out;
  return out;
}

Case pool(Op op) {
  for (;;) {
    Case c;
    Instruction& code = c.step.code;
    c.images = chance(20) ? draw(2, 4) : 1;
    const bool global = op == AVERAGE_POOL && chance(50);
    const int32_t h = draw(1, global ? 40 : 14), w = draw(1, 20), n = channels();
    code.kh = global ? h : draw(1, 5), code.kw = global ? w : draw(1, 5);
    code.sh = draw(1, 3), code.sw = draw(1, 3);
    code.dh = op == MAX_POOL ? draw(1, 2) : 1, code.dw = op == MAX_POOL ? draw(1, 2) : 1;
    code.ph = global ? 0 : draw(0, code.kh / 2), code.pw = global ? 0 : draw(0, code.kw / 2);
    const bool up = chance(30);
    const int32_t oh = outputs(h, code.kh, code.sh, code.dh, code.ph, up);
    const int32_t ow = outputs(w, code.kw, code.sw, code.dw, code.pw, up);
    const bool fits =
        h + 2 * code.ph > (code.kh - 1) * code.dh && w + 2 * code.pw > (code.kw - 1) * code.dw;
    if (!fits || oh < 1 || ow < 1) continue;
    c.in = bytes_tensor(c.images, h, w, n, chance(30) ? draw(1, 70) : 0, draw(0, 1), draw(0, 2),
                        draw(0, 1), draw(0, 2));
    c.out = bytes_tensor(c.images, oh, ow, n, chance(30) ? draw(1, 70) : 0, draw(0, 1), draw(0, 2),
                         draw(0, 1), draw(0, 2));
    code.m0 = chance(50) ? 1.f : draw(1, 1000) / 500.f;
    code.flags = chance(50) ? INCLUDE_PAD : 0;
    code.op = op;
    const bool floats = op == AVERAGE_POOL && chance(25);
    if (floats) c.out = float_tensor(c.images, oh, ow, n, chance(50)), code.flags |= FLOAT_OUT;
    finish_case(c, !floats && chance(30));
    return c;
  }
}

Case depthwise() {
  Case c;
  Instruction& code = c.step.code;
  c.images = chance(10) ? draw(2, 4) : 1;
  const int32_t usual[] = {3, 5, 3, 7, 1, 2};
  const int32_t oh = draw(1, 9), ow = draw(1, 18),
                n = chance(15) ? 16 * draw(20, 70) - draw(0, 1) : channels();
  code.kh = chance(85) ? usual[draw(0, 5)] : draw(1, 9);
  code.kw = chance(80) ? code.kh : draw(1, 9);
  code.sh = draw(1, 2), code.sw = chance(80) ? code.sh : draw(1, 4);
  code.dh = chance(80) ? 1 : draw(2, 3), code.dw = chance(80) ? code.dh : draw(1, 3);
  code.ph = draw(0, code.kh / 2) * code.dh, code.pw = draw(0, code.kw / 2) * code.dw;
  const int32_t need_h = (oh - 1) * code.sh + (code.kh - 1) * code.dh + 1 - code.ph;
  const int32_t need_w = (ow - 1) * code.sw + (code.kw - 1) * code.dw + 1 - code.pw;
  const int32_t h = std::max(1, need_h - draw(0, code.ph)),
                w = std::max(1, need_w - draw(0, code.pw));
  c.in = bytes_tensor(c.images, h, w, n, chance(20) ? draw(1, 70) : 0, code.ph, code.pw,
                      std::max(0, need_h - h), std::max(0, need_w - w));
  c.out = bytes_tensor(c.images, oh, ow, n, chance(30) ? draw(1, 70) : 0, draw(0, 1), draw(0, 2),
                       draw(0, 1), draw(0, 2));
  if (chance(10)) {
    code.flags = RESIDUAL, code.m1 = 0.5f;
    c.other = bytes_tensor(c.images, oh, ow, n);
  }
  code.op = DEPTHWISE;
  add_weights(c, n, code.kh, code.kw);
  finish_case(c, chance(40));
  return c;
}

Case moves(Op op) {
  Case c;
  Instruction& code = c.step.code;
  c.images = chance(20) ? draw(2, 4) : 1;
  const int32_t h = draw(1, 9), w = draw(1, 20);
  code.groups = op != SHUFFLE ? 1 : chance(70) ? 2 : draw(1, 4);
  const int32_t n = chance(50) ? channels() * code.groups : code.groups * draw(1, 150);
  const int32_t oh = op == NEAREST ? draw(1, 20) : h, ow = op == NEAREST ? draw(1, 40) : w;
  c.in = bytes_tensor(c.images, h, w, n, chance(30) ? draw(1, 70) : 0, draw(0, 1), draw(0, 2),
                      draw(0, 1), draw(0, 2));
  c.out = op == FLATTEN ? bytes_tensor(c.images, 1, 1, h * w * n)
                        : bytes_tensor(c.images, oh, ow, n, chance(30) ? draw(1, 70) : 0,
                                       draw(0, 1), draw(0, 2), draw(0, 1), draw(0, 2));
  code.op = op;
  finish_case(c, false);
  return c;
}

Case make(Op op) {
  switch (op) {
    case ENTER:
    case LEAVE:
      return border(op);
    case ADD:
    case MULTIPLY:
    case TABLE:
      return pointwise(op);
    case MAX_POOL:
    case AVERAGE_POOL:
      return pool(op);
    case DEPTHWISE:
      return depthwise();
    case MATMUL:
      return matmul();
    case RANGE:
    case RESCALE:
      return dynamic(op);
    default:
      return moves(op);
  }
}

void describe(const Case& c) {
  const Instruction& k = c.step.code;
  printf(
      "    in %dx%dx%d (pixel %ld) out %dx%dx%d (pixel %ld) kernel %dx%d stride %dx%d dilation "
      "%dx%d padding %dx%d images %d flags %d table %d\n",
      c.in.view.h, c.in.view.w, c.in.view.c, long(c.in.view.pixel), c.out.view.h, c.out.view.w,
      c.out.view.c, long(c.out.view.pixel), k.kh, k.kw, k.sh, k.sw, k.dh, k.dw, k.ph, k.pw,
      c.images, k.flags, c.step.table != nullptr);
}

// The first cases of an operator, with the kernels of one instruction set; how many are wrong.
int failures(Op op, const Kernel& kernel, int rounds) {
  int wrong = 0;
  for (int i = 0; i < rounds && wrong < 5; ++i) {
    generator().seed(uint32_t(i));
    Case c = make(op);
    if (check(kernel, c)) continue;
    printf("  %s differs, case %d\n", kernel.name.c_str(), i), describe(c), ++wrong;
  }
  printf("%-24s %s\n", kernel.name.c_str(), wrong ? "WRONG" : "ok");
  return wrong;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 500;
  int wrong = 0;
  for (int32_t f = 0; f < FAMILY_COUNT; ++f) {
    const Family& family = FAMILIES[f];
    if (family.op == CONV || family.op == TRANSPOSED) continue;  // dense_test.cpp
    for (int32_t isa = PLAIN; isa <= AMX; ++isa) {
      if (!has_isa(isa) || !family.prepare[isa]) continue;
      const std::string name = "op " + std::to_string(family.op) + " " + isa_name(isa);
      wrong += failures(family.op, {name, family.prepare[PLAIN], family.prepare[isa]}, rounds);
    }
  }
  return wrong != 0;
}
