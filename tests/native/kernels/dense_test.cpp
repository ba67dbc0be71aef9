// Every instruction set gives the plain kernel's bits, over random geometries, in guarded memory.
//   ./dense_test [cases] [first seed]; add -fsanitize=address,undefined for what guards do not see
#include "dense_case.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

using namespace fxq;

namespace {

Case draw(Random& random) {
  Case c;
  Instruction& code = c.code;
  code.op = CONV;
  code.kh = random.one_in(3) ? 1 : random.in(1, 4), code.kw = random.one_in(3) ? 1 : random.in(1, 4);
  code.sh = random.in(1, 3), code.sw = random.one_in(2) ? code.sh : random.in(1, 3);
  code.dh = random.in(1, 2), code.dw = random.one_in(2) ? 1 : random.in(1, 3);
  if (random.one_in(2)) code.sh = code.sw = code.dh = code.dw = 1;
  code.ph = random.in(0, code.kh), code.pw = random.in(0, code.kw);
  if (random.one_in(4)) code.kw = code.kh = 3, code.pw = code.ph = 1;
  c.layer.groups = random.one_in(4) ? random.in(2, 12) : 1;
  c.layer.inputs = random.one_in(4) ? random.in(1, 200) : random.in(1, 40);
  if (c.layer.groups > 1) c.layer.inputs = random.in(1, 20);
  c.layer.outputs = c.layer.groups * random.in(1, c.layer.groups > 1 ? 24 : 150);
  c.images = random.one_in(3) ? random.in(2, 20) : 1;
  int32_t h = random.one_in(4) ? 1 : random.in(1, 20), w = random.one_in(6) ? 1 : random.in(1, 40);
  if (random.one_in(6)) code.kh = code.kw = h = w = 1, code.ph = code.pw = 0, c.images = random.in(1, 70);
  h = std::max(h, (code.kh - 1) * code.dh + 1 - 2 * code.ph);
  w = std::max(w, (code.kw - 1) * code.dw + 1 - 2 * code.pw);
  code.zero_in = random.in(0, 255), code.zero_other = random.in(0, 255);
  code.zero_out = random.in(0, 255);
  code.low = random.one_in(2) ? code.zero_out : random.in(0, 100);
  code.high = random.in(std::max(code.low, 100), 255);
  code.m1 = float(random.in(1, 3000)) / 1000;
  code.flags = (random.one_in(3) ? RESIDUAL : 0) | (random.one_in(4) ? FLOAT_OUT : 0) |
               (c.images > 1 ? WIDE_STEP : 0);
  if (!(code.flags & (RESIDUAL | FLOAT_OUT)) && random.one_in(4)) code.flags |= SUMS_OUT;
  code.table = random.one_in(3) && !(code.flags & (FLOAT_OUT | SUMS_OUT)) ? 0 : -1;
  c.lay_out(h, w, random.one_in(3) ? random.in(1, 40) : 0, random.one_in(3) ? random.in(1, 40) : 0,
            random.one_in(2) ? 0 : random.in(1, 2));
  c.draw_numbers(random);
  if (random.one_in(8)) c.multiplier[0] *= 3000;  // most results leave the range
  return c;
}

struct Memory {
  Guarded in, other, out;
  Memory(const Case& c, bool front)
      : in(c.in.bytes, front), other(c.other.bytes, front), out(c.out.bytes, front) {}
};

void run(const Case& c, Step& step, const Memory& memory, bool in_place, Random& random) {
  Operands operands{memory.in.data + c.in.view.offset, memory.other.data + c.other.view.offset,
                    memory.out.data + c.out.view.offset, c.images};
  if (in_place) operands.other = operands.out;
  if (!(c.code.flags & RESIDUAL)) operands.other = nullptr;
  std::vector<int32_t> chunks(step.chunks);
  for (int32_t i = 0; i < step.chunks; i++) chunks[i] = i;
  std::shuffle(chunks.begin(), chunks.end(), random.bits);
  alignas(64) static uint8_t scratch[SCRATCH];
  for (int32_t chunk : chunks) step.run(step, operands, chunk, scratch);
}

bool compare(Case& c, Random& random, int32_t (&counts)[8]) {
  Weights weights(c.layer);
  Memory memory(c, random.one_in(2));
  memory.in.fill(random), memory.other.fill(random), memory.out.fill(random);
  const bool in_place = c.code.flags & RESIDUAL && !(c.code.flags & FLOAT_OUT) && random.one_in(2);
  if (in_place) c.other = c.out;
  const std::vector<uint8_t> before(memory.out.data, memory.out.data + c.out.bytes);
  Step plain = c.step(weights);
  prepare_conv_plain(plain, c.images);
  run(c, plain, memory, in_place, random);
  const std::vector<uint8_t> expected(memory.out.data, memory.out.data + c.out.bytes);
  for (int32_t i = PLAIN + 1; i <= AMX; i++) {
    Step step = c.step(weights);
    const Prepare prepare = kernel_of(CONV, i);
    if (!prepare || !prepare(step, c.images)) continue;
    memcpy(memory.out.data, before.data(), before.size());
    run(c, step, memory, in_place, random);
    counts[i]++;
    if (memcmp(memory.out.data, expected.data(), expected.size()) == 0) continue;
    const Instruction& d = c.code;
    printf("%s differs: %d -> %d, groups %d, kernel %dx%d stride %dx%d dilation %dx%d pad %dx%d, "
           "in %dx%d out %dx%d images %d flags %d table %d chunks %d in place %d\n",
           isa_name(i), c.layer.inputs * c.layer.groups, c.layer.outputs, c.layer.groups, d.kh,
           d.kw, d.sh, d.sw, d.dh, d.dw, d.ph, d.pw, c.in.view.h, c.in.view.w, c.out.view.h,
           c.out.view.w, c.images, d.flags, d.table, step.chunks, in_place);
    return false;
  }
  return true;
}

bool holds(const Case& c, const std::vector<int32_t>& sums, const uint8_t* results) {
  for (size_t i = 0; i < sums.size(); i++) {
    const float v = std::nearbyint(float(sums[i]) * c.multiplier[i % c.multiplier.size()]);
    const float q = std::min(std::max(v + float(c.code.zero_out), 0.0f), 255.0f);
    if (results[i] != uint8_t(q)) return false;
  }
  return true;
}

// The transposed kernel gathers; here each input is scattered over the outputs that it reaches.
bool transposed_scatters(Random& random) {
  Case c;
  Instruction& d = c.code;
  d.op = TRANSPOSED, d.flags = 0, d.table = -1, d.high = 255, d.zero_in = random.in(0, 255);
  d.zero_out = random.in(0, 255);
  d.kh = random.in(1, 4), d.kw = random.in(1, 4), d.sh = random.in(1, 3), d.sw = random.in(1, 3);
  d.dh = random.in(1, 2), d.dw = random.in(1, 2), d.ph = random.in(0, d.kh - 1), d.pw = 0;
  const int32_t groups = random.in(1, 3), in = random.in(1, 9), out = random.in(1, 9);
  const int32_t h = random.in(d.kh, 7), w = random.in(1, 7);
  const int32_t out_h = (h - 1) * d.sh - 2 * d.ph + d.dh * (d.kh - 1) + 1 + random.in(0, 1);
  const int32_t out_w = (w - 1) * d.sw + d.dw * (d.kw - 1) + 1;
  c.layer = {out * groups, in, groups, d.kh, d.kw, 1, d.zero_in, 0, nullptr, nullptr, nullptr, nullptr};
  c.in = Value::of(1, h, w, in * groups, 1, 0, 0, 0, 0, 0);
  c.out = Value::of(1, out_h, out_w, out * groups, 1, 0, 0, 0, 0, 0);
  c.other = c.out;
  c.draw_numbers(random);
  std::vector<int32_t> sums(int64_t(out_h) * out_w * out * groups);
  for (size_t i = 0; i < sums.size(); i++) sums[i] = c.bias[i % (out * groups)];
  Memory memory(c, false);
  memory.in.fill(random);
  const int32_t taps = d.kh * d.kw;
  for (int32_t i = 0; i < h * w * in * groups * out * taps; i++) {
    const int32_t tap = i % taps, o = i / taps % out, channel = i / taps / out % (in * groups);
    const int32_t pixel = i / taps / out / (in * groups), y = pixel / w, x = pixel % w;
    const int32_t to_y = y * d.sh - d.ph + tap / d.kw * d.dh, to_x = x * d.sw + tap % d.kw * d.dw;
    if (to_y < 0 || to_y >= out_h || to_x >= out_w) continue;
    sums[((int64_t(to_y) * out_w + to_x) * groups + channel / in) * out + o] +=
        (memory.in.data[pixel * in * groups + channel] - d.zero_in) *
        c.weight[(channel * out + o) * taps + tap];
  }
  Weights weights(c.layer);
  for (int32_t isa = PLAIN; isa <= AMX; isa++) {
    Step step = c.step(weights);
    const Prepare prepare = kernel_of(TRANSPOSED, isa);
    if (!prepare || !prepare(step, 1)) continue;
    memory.out.fill(random);
    run(c, step, memory, false, random);
    if (!holds(c, sums, memory.out.data)) return printf("%s: ", isa_name(isa)), false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int32_t cases = argc > 1 ? atoi(argv[1]) : 500, seed = argc > 2 ? atoi(argv[2]) : 0;
  int32_t counts[8] = {}, failures = 0;
  for (int32_t i = 0; i < cases; i++) {
    Random random{std::mt19937_64(uint64_t(seed) + i)};
    if (!transposed_scatters(random)) {
      printf("transposed differs: seed %d\n", seed + i);
      failures++;
    }
    Case c = draw(random);
    if (compare(c, random, counts)) continue;
    printf("  seed %d\n", seed + i);
    if (++failures == 10) break;
  }
  for (int32_t i = PLAIN + 1; i <= AMX; i++)
    if (kernel_of(CONV, i)) printf("%s: %d cases\n", isa_name(i), counts[i]);
  puts(failures ? "FAILED" : "all equal");
  return failures != 0;
}
