#include "depthwise_shape.h"

#include <cmath>
#include <cstring>

#include "weights.h"

namespace fxq {
namespace {

constexpr int64_t STRIP_BYTES = 24 * 1024;  // half of the first cache, if pixels stay enough:
constexpr int32_t LEAST_PIXELS = 14;        // a strip begins with kw - 1 pixels of its neighbour
constexpr int32_t LONGEST_PERIOD = 4096;
constexpr int32_t MOST_CHANNELS = 1 << 15,
                  MOST_TAPS = 1 << 10;  // what is beyond has a plain kernel

int32_t round_up(int32_t a, int32_t b) { return ceil_div(a, b) * b; }

int32_t least_multiple(int32_t lanes, int32_t width) {
  int32_t period = lanes;
  while (period % width) period *= 2;  // width is a power of two, and lanes a multiple of 4
  return period;
}

// The most rows that need no further group of input rows.
int32_t rows_of(const Instruction& k, const Lanes& lanes) {
  if (k.dh > 1) return 1;
  const int32_t groups = ceil_div(k.kh, lanes.group);
  for (int32_t rows = lanes.rows; rows > 1; rows /= 2)
    if (ceil_div((rows - 1) * k.sh + k.kh, lanes.group) == groups) return rows;
  return 1;
}

int64_t strip_bytes(const Shape& g) { return 4ll * g.groups * g.phases * g.plane; }
int64_t scratch_bytes(const Shape& g) { return strip_bytes(g) + int64_t(g.rows) * g.line; }

// Sets the width of strips. False where they do not fit in the scratch memory.
bool set_width(Shape& g, const Step& s, int32_t width, int32_t pixels) {
  const int64_t last = (s.code.kw - 1) * s.code.dw / s.code.sw, bytes = (pixels + last) * g.lanes;
  if (bytes > SCRATCH) return false;
  g.width = pixels;
  g.line = round_up(int32_t(bytes), width) + 2 * width;
  g.plane = g.line / 64 % 2 ? g.line : g.line + 64;  // planes lie in different sets of the cache
  return scratch_bytes(g) <= SCRATCH;
}

// Strips of all output columns, in panels of whole blocks. False where these would be too empty.
bool set_panels(Shape& g, const Step& s, int32_t width) {
  const int32_t blocks = ceil_div(s.out.c, width);
  if (blocks * width * 15 > s.out.c * 16) return false;
  g.lanes = g.period = width;
  if (!set_width(g, s, width, s.out.w)) return false;
  g.panels = ceil_div(blocks, most(1, least(blocks, int32_t(STRIP_BYTES / strip_bytes(g)))));
  g.lanes = g.period = ceil_div(blocks, g.panels) * width;
  g.panels = ceil_div(blocks * width, g.lanes);
  return set_width(g, s, width, s.out.w);
}

// Strips of whole pixels, of some output columns.
bool set_columns(Shape& g, const Step& s, int32_t width) {
  g.panels = 1;
  g.lanes = round_up(s.out.c, 4);
  if (least_multiple(g.lanes, width) > LONGEST_PERIOD) g.lanes = round_up(s.out.c, width);
  g.period = least_multiple(g.lanes, width);
  for (int32_t parts = 1; parts <= s.out.w; ++parts) {
    const int32_t pixels = ceil_div(s.out.w, parts);
    if (!set_width(g, s, width, pixels)) continue;
    if (strip_bytes(g) <= STRIP_BYTES) return true;
    if (pixels < 2 * LEAST_PIXELS) return set_panels(g, s, width) || set_width(g, s, width, pixels);
  }
  return false;
}

bool set_shape(Shape& g, const Step& s, const Lanes& lanes) {
  g.rows = rows_of(s.code, lanes);
  g.groups = ceil_div((g.rows - 1) * s.code.sh + s.code.kh, lanes.group);
  g.phases = least(s.code.sw, (s.code.kw - 1) * s.code.dw + 1);
  if (!set_columns(g, s, lanes.width)) return false;
  g.units = ceil_div(s.out.h, g.rows) * g.panels;
  return true;
}

// Lane `lane` of vector v holds this byte of a block.
int32_t byte_of(int32_t v, int32_t lane) { return lane / 4 * 16 + 4 * v + lane % 4; }

// The weight at slot (input row of the strip) and column kx for output row `row`; 0 outside the kernel.
int32_t weight_at(const Weights& w, const Step& s, int32_t c, int32_t slot, int32_t kx,
                  int32_t row) {
  const int32_t ky = slot - row * s.code.sh;
  if (ky < 0 || ky >= s.code.kh) return 0;
  return w.layer.weight[(int64_t(c) * s.code.kh + ky) * s.code.kw + kx];
}

struct Packer {
  const Weights& w;
  const Step& s;
  const Shape& g;
  int32_t width, group, less;

  int32_t channel(int32_t block, int32_t v, int32_t lane) const {
    const int32_t byte = block * width + byte_of(v, lane);
    return g.panels > 1 ? byte : byte % g.lanes;
  }

  int32_t sum_of(int32_t c) const {
    int32_t sum = 0;
    for (int32_t i = 0; i < s.code.kh * s.code.kw; ++i)
      sum += w.layer.weight[int64_t(c) * s.code.kh * s.code.kw + i];
    return sum;
  }

  void lane_taps(uint8_t* to, int32_t c, int32_t slot, int32_t kx, int32_t row) const {
    for (int32_t i = 0; i < group; ++i) {
      const int32_t value = weight_at(w, s, c, slot + i, kx, row);
      if (group == 4)
        to[i] = uint8_t(value);
      else
        reinterpret_cast<int16_t*>(to)[i] = int16_t(value);
    }
  }

  // A multiplier above 512 saturates every sum but 0, as 512 does, whose products fit.
  void lane(uint8_t* to, int32_t block, int32_t v, int32_t lane) const {
    const int32_t c = channel(block, v, lane), at = 4 * (v * width / 4 + lane);
    if (c >= s.out.c) return;
    const float multiplier = std::fmin(w.layer.multiplier[c], 512.f);
    const uint32_t bias = uint32_t(w.bias[c]) + uint32_t(less * sum_of(c));
    std::memcpy(to + at, &bias, 4);
    std::memcpy(to + head_bytes(width) / 2 + at, &multiplier, 4);
    uint8_t* taps = to + head_bytes(width) + at;
    for (int32_t i = 0; i < g.groups; ++i)
      for (int32_t kx = 0; kx < s.code.kw; ++kx)
        for (int32_t row = 0; row < g.rows; ++row, taps += 4 * width)
          lane_taps(taps, c, i * group, kx, row);
  }

  std::unique_ptr<Block> operator()() const {
    const int64_t bytes = head_bytes(width) + 4ll * g.groups * s.code.kw * g.rows * width;
    const int32_t blocks = g.panels * g.period / width;
    auto packed = std::make_unique<Block>(bytes * blocks);
    for (int32_t block = 0; block < blocks; ++block)
      for (int32_t v = 0; v < 4; ++v)
        for (int32_t i = 0; i < width / 4; ++i) lane(packed->data() + block * bytes, block, v, i);
    return packed;
  }
};

bool fits(const Weights& w) {
  const int32_t taps = w.layer.kh * w.layer.kw;
  for (int32_t c = 0; c < w.layer.outputs; ++c) {
    double sum = std::fabs(double(w.bias[c]));
    for (int32_t i = 0; i < taps; ++i)
      sum += 255.0 * std::abs(w.layer.weight[int64_t(c) * taps + i]);
    const double multiplier = w.layer.multiplier[c];
    if (!(multiplier >= 0 && sum * std::fmin(multiplier, 512.0) < 1 << 30)) return false;
  }
  return true;
}

void add_offsets(Step& s, const Shape& g) {
  for (int32_t i = 0; i < g.groups; ++i)
    for (int32_t kx = 0; kx < s.code.kw; ++kx) {
      const int32_t x = kx * s.code.dw, first = (i * g.phases + x % s.code.sw) * 4;
      for (int32_t v = 0; v < 4; ++v) {
        const int32_t quarter = x / s.code.sw * g.lanes / 4 + v;
        s.numbers.push_back((first + quarter % 4) * g.plane + quarter / 4 * 16);
      }
    }
}

}  // namespace

bool shape_depthwise(Step& s, int32_t images, const Lanes& lanes) {
  const int32_t width = lanes.width, group = lanes.group;
  const bool usual = s.out.c <= MOST_CHANNELS && int64_t(s.code.kh) * s.code.kw <= MOST_TAPS;
  if (!usual || s.code.flags & RESIDUAL || !fits(*s.weights)) return false;
  Shape g{};
  if (!set_shape(g, s, lanes)) return false;
  const double work = double(g.rows) * s.out.w * s.out.c / g.panels * (s.code.kh * s.code.kw + 6);
  cut(s, images, g.units, work / (width == 64 ? 60 : 20));
  const auto* numbers = reinterpret_cast<const int32_t*>(&g);
  s.numbers.insert(s.numbers.end(), numbers + 2, numbers + sizeof(Shape) / sizeof(int32_t));
  add_offsets(s, g);
  const int64_t key = (int64_t(width) << 56) + (int64_t(group) << 48) + (int64_t(g.rows) << 40) +
                      (int64_t(s.code.sh) << 32) + (g.panels > 1 ? 0 : g.lanes);
  s.packed =
      s.weights->packed(key, [&](const Weights& w) { return Packer{w, s, g, width, group, lanes.less}(); });
  return true;
}

}  // namespace fxq
