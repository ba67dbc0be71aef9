// Transposed convolutions as dense ones, for the kernels of any instruction set.
//
// Output pixels whose row and column leave the same remainders by the strides, a phase, meet the
// same taps. The input pixels under these are copied side by side, zero points where the image
// ends; a phase is then a convolution of single pixels, whose results lie `stride` pixels apart.
//
//   kernel 3, stride 2, no padding:   a b a b    a: (0,0) (0,2) (2,0) (2,2)    b: (0,1) (2,1)
//                                     c d c d    c: (1,0) (1,2)                d: (1,1)
#include <cstring>
#include <memory>

#include "dense.h"
#include "weights.h"
#include "work.h"

namespace fxq {
namespace {

constexpr int64_t LINES = 64 * 1024;  // bytes of a part's copies: they stay in the second cache
constexpr int32_t MOST_PHASES = 64, MOST_PARTS = 1 << 14;

struct Tap {
  int32_t index;  // in the kernel; -1 for one of zeros, where a phase meets none
  int32_t y, x;   // the input pixel's place, from that of the result within the phase
};

struct Phase {
  std::vector<Tap> taps;
  int32_t channels;    // of a group that are copied: one where no tap is met
  std::unique_ptr<Weights> weights;
  int32_t y, x, h, w;  // of its first result; how many there are
};

struct Part {  // rows and columns of a phase, of which the copies fit in the scratch memory
  const Phase* phase;
  int32_t y, x;  // of its first result within the phase
  Step conv;
};

struct Transposed {
  std::vector<std::unique_ptr<Phase>> phases;
  std::vector<Part> parts;
};

// The taps of a row or a column of the kernel that meet results of a phase, and where.
std::vector<Tap> meets(int32_t phase, int32_t kernel, int32_t padding, int32_t dilation,
                       int32_t stride) {
  std::vector<Tap> taps;
  for (int32_t k = 0; k < kernel; ++k) {
    const int32_t at = phase + padding - k * dilation;
    if (at % stride == 0) taps.push_back({k, at / stride, 0});
  }
  return taps;
}

std::vector<Tap> taps_of(const Instruction& code, int32_t y, int32_t x) {
  std::vector<Tap> taps;
  for (const Tap& a : meets(y, code.kh, code.ph, code.dh, code.sh))
    for (const Tap& b : meets(x, code.kw, code.pw, code.dw, code.sw))
      taps.push_back({a.index * code.kw + b.index, a.y, b.y});
  if (taps.empty()) taps.push_back({-1, 0, 0});
  return taps;
}

// The phase's weights as those of a convolution: [output][tap][channel of the group].
std::unique_ptr<Weights> weights_of(const Layer& layer, const Phase& phase) {
  const int64_t outputs = layer.outputs / layer.groups, kernel = int64_t{layer.kh} * layer.kw;
  std::vector<int8_t> weight;
  weight.reserve(int64_t{layer.outputs} * phase.channels * phase.taps.size());
  for (int64_t o = 0; o < layer.outputs; ++o)
    for (const Tap& tap : phase.taps)
      for (int64_t c = 0; c < phase.channels; ++c) {
        const int64_t row = (o / outputs * layer.inputs + c) * outputs + o % outputs;
        weight.push_back(tap.index < 0 ? int8_t(0) : layer.weight[row * kernel + tap.index]);
      }
  Layer conv = layer;
  conv.inputs = int32_t(phase.channels * phase.taps.size());
  conv.kh = conv.kw = 1, conv.transposed = 0;
  conv.weight = weight.data();
  return std::make_unique<Weights>(conv);
}

// One pixel in `stride`, both ways, from (y, x) on: h by w of them.
View every(const View& view, const Instruction& code, int32_t h, int32_t w) {
  View v = view;
  v.h = h, v.w = w;
  v.row *= code.sh, v.pixel *= code.sw;
  return v;
}

Step conv_of(const Step& s, const Phase& phase, int32_t h, int32_t w) {
  Step conv{};
  Instruction& code = conv.code = s.code;
  code.op = CONV, code.kh = code.kw = code.sh = code.sw = code.dh = code.dw = 1;
  code.ph = code.pw = 0;
  conv.in = s.in;
  conv.in.h = h, conv.in.w = w;
  conv.in.c = phase.weights->layer.inputs * phase.weights->layer.groups;
  conv.in.pixel = conv.in.c, conv.in.row = int64_t{w} * conv.in.c;
  conv.out = every(s.out, s.code, h, w), conv.other = every(s.other, s.code, h, w);
  conv.weights = phase.weights.get(), conv.table = s.table;
  return conv;
}

// False where there are too many, or the kernel of convolutions refuses one.
bool add_parts(Transposed& all, const Step& s, const Phase& phase, Prepare prepare) {
  const int64_t line = int64_t{phase.weights->layer.inputs} * phase.weights->layer.groups;
  if (line > LINES) return false;
  const int32_t w = int32_t(LINES / line < phase.w ? LINES / line : phase.w);
  const int32_t h = least(phase.h, most(1, int32_t(LINES / (line * w))));
  for (int32_t y = 0; y < phase.h; y += h)
    for (int32_t x = 0; x < phase.w; x += w) {
      Step conv = conv_of(s, phase, least(h, phase.h - y), least(w, phase.w - x));
      if (all.parts.size() >= MOST_PARTS || !prepare(conv, 1)) return false;
      all.parts.push_back({&phase, y, x, std::move(conv)});
    }
  return true;
}

// The bytes under each result's taps: [result][group][tap][channel].
void copy(const Step& s, const Part& part, const uint8_t* image, uint8_t* to) {
  const int32_t groups = s.weights->layer.groups, channels = part.phase->channels;
  const int32_t w = part.conv.out.w, results = part.conv.out.h * w;
  for (int32_t i = 0; i < results; ++i)
    for (int32_t g = 0; g < groups; ++g)
      for (const Tap& tap : part.phase->taps) {
        const int32_t y = part.y + i / w + tap.y, x = part.x + i % w + tap.x;
        const bool inside = y >= 0 && y < s.in.h && x >= 0 && x < s.in.w;
        if (inside) std::memcpy(to, pixel(s.in, image, y, x) + g * channels, channels);
        else std::memset(to, s.code.zero_in, channels);
        to += channels;
      }
}

void run(const Step& s, const Operands& o, int32_t chunk, uint8_t* scratch) {
  const auto& all = *static_cast<const Transposed*>(s.owned.get());
  for_units(s, o, chunk, [&](const Operands& image, int32_t unit) {
    const Part& part = all.parts[unit];
    const int32_t y = part.phase->y + part.y * s.code.sh, x = part.phase->x + part.x * s.code.sw;
    Operands conv{scratch, image.other, pixel(s.out, image.out, y, x), 1};
    if (s.code.flags & RESIDUAL) conv.other = pixel(s.other, image.other, y, x);
    copy(s, part, image.in, scratch);
    for (int32_t c = 0; c < part.conv.chunks; ++c) part.conv.run(part.conv, conv, c, nullptr);
  });
}

}  // namespace

bool prepare_transposed(Step& s, int32_t images, Prepare prepare) {
  const int32_t down = least(s.code.sh, s.out.h), across = least(s.code.sw, s.out.w);
  if (int64_t{down} * across > MOST_PHASES || s.in.channel != 1) return false;
  auto all = std::make_shared<Transposed>();
  for (int32_t i = 0; i < down * across; ++i) {
    auto phase = std::make_unique<Phase>();
    phase->y = i / across, phase->x = i % across;
    phase->h = ceil_div(s.out.h - phase->y, s.code.sh);
    phase->w = ceil_div(s.out.w - phase->x, s.code.sw);
    phase->taps = taps_of(s.code, phase->y, phase->x);
    phase->channels = phase->taps.front().index < 0 ? 1 : s.weights->layer.inputs;
    phase->weights = weights_of(s.weights->layer, *phase);
    all->phases.push_back(std::move(phase));
    if (!add_parts(*all, s, *all->phases.back(), prepare)) return false;
  }
  const Layer& layer = s.weights->layer;
  const double macs = 1.0 * s.in.h * s.in.w * layer.inputs * layer.outputs * layer.kh * layer.kw;
  cut(s, images, int32_t(all->parts.size()), macs / 60 / double(all->parts.size()));
  s.owned = std::move(all);
  s.run = run;
  return true;
}

}  // namespace fxq
