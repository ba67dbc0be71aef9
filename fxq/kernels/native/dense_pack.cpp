// Packs weights for the dense kernels; dense.h draws the layout.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "dense.h"
#include "weights.h"
#include "work.h"

namespace fxq {
namespace {

int32_t rounded_up(int32_t n, int32_t unit) { return (n + unit - 1) / unit * unit; }

// Groups with few outputs are computed together, with zeros between them, to fill a vector.
int32_t merged_groups(const Layer& layer) {
  int32_t outputs = layer.outputs / layer.groups, merged = 1;
  for (int32_t n = 2; n * outputs <= 16 && n <= layer.groups; n++)
    if (layer.groups % n == 0) merged = n;
  return merged;
}

struct Layout {
  Form form;
  int32_t merged, channels, outputs;  // of merged groups
  int32_t joined, kx_bytes;           // whether a run holds all kx; bytes from one to the next
  int32_t runs, run_bytes;
};

Layout layout_of(const Step& step, const Form& form) {
  const Layer& layer = step.weights->layer;
  Layout l{form, merged_groups(layer), 0, 0, 0, 0, 0, 0};
  l.channels = l.merged * layer.inputs;
  l.outputs = l.merged * layer.outputs / layer.groups;
  int64_t joined = (layer.kw - 1) * step.in.pixel + l.channels;
  bool side_by_side = step.code.dw == 1 && layer.groups == 1 && layer.kw > 1;
  l.joined = side_by_side && (joined + form.unit - 1) / form.unit * form.unit <=
                                 layer.kw * rounded_up(l.channels, form.unit);
  l.kx_bytes = l.joined ? int32_t(step.in.pixel) : 0;
  l.runs = layer.kh * (l.joined ? 1 : layer.kw);
  l.run_bytes = rounded_up(l.joined ? int32_t(joined) : l.channels, form.unit);
  return l;
}

// Panels of equal width: 10 vectors are 4 + 3 + 3, not 4 + 4 + 2.
std::vector<Panel> panels_of(const Layer& layer, const Layout& l) {
  std::vector<Panel> panels;
  int32_t vectors = rounded_up(l.outputs, l.form.lanes) / l.form.lanes, done = 0;
  int32_t parts = rounded_up(vectors, l.form.vectors) / l.form.vectors;
  for (int32_t group = 0; group < layer.groups / l.merged; group++, done += vectors)
    for (int32_t part = 0; part < parts; part++) {
      int32_t first = vectors * part / parts, end = vectors * (part + 1) / parts;
      int32_t outputs = std::min(end * l.form.lanes, l.outputs) - first * l.form.lanes;
      panels.push_back({group * l.outputs + first * l.form.lanes, outputs, done + first,
                        end - first, group * l.channels, 0, nullptr});
    }
  return panels;
}

// An output's weights in the order of the input's bytes, run behind run.
void order_runs(const Layer& layer, const Layout& l, int32_t output, int8_t* row) {
  const int32_t taps = layer.kh * layer.kw, group_outputs = layer.outputs / layer.groups;
  const int8_t* from = layer.weight + int64_t(output) * layer.inputs * taps;
  int8_t* to = row + (output / group_outputs % l.merged) * layer.inputs;
  for (int32_t tap = 0; tap < taps; tap++) {
    const int32_t run = l.joined ? tap / layer.kw : tap, kx = tap % layer.kw;
    int8_t* at = to + int64_t(run) * l.run_bytes + kx * l.kx_bytes;
    for (int32_t c = 0; c < layer.inputs; c++) at[c] = from[int64_t(c) * taps + tap];
  }
}

// Puts each dword of an output's row into its lane.
void fill(const Layer& layer, const Layout& l, const Panel& panel, uint8_t* weights) {
  const int64_t lane = 4 * l.form.element, vector = lane * l.form.lanes;
  std::vector<int8_t> row(int64_t(l.runs) * l.run_bytes);
  for (int32_t i = 0; i < panel.outputs; i++) {
    std::fill(row.begin(), row.end(), int8_t(0));
    order_runs(layer, l, panel.output + i, row.data());
    const int32_t in_vector = i % l.form.lanes;
    uint8_t* to = weights + i / l.form.lanes * vector + in_vector * 4;
    for (size_t k = 0; k < row.size(); k += 4, to += panel.vectors * vector) {
      const int8_t* w = row.data() + k;
      const int16_t even[2] = {w[0], w[2]}, odd[2] = {w[1], w[3]};
      memcpy(to, l.form.element == 1 ? static_cast<const void*>(w) : even, 4);
      if (l.form.element == 2) memcpy(to + 4 * l.form.lanes, odd, 4);
    }
  }
}

float largest_result(const Weights& weights) {
  const Layer& layer = weights.layer;
  const int64_t size = int64_t(layer.inputs) * layer.kh * layer.kw;
  double largest = 0;
  for (int32_t o = 0; o < layer.outputs; o++) {
    const int64_t sum = absolute_sum_of(layer.weight + o * size, size);
    double bound = 255.0 * double(sum) + std::abs(double(weights.bias[o]));
    largest = std::max(largest, bound * std::abs(double(layer.multiplier[o])));
  }
  return float(largest);
}

// Sums of (x - less) * weight begin here; they wrap at 32 bits, as all sums do.
int32_t bias_of(const Weights& weights, int32_t output, int32_t less) {
  const int64_t size = int64_t(weights.layer.inputs) * weights.layer.kh * weights.layer.kw;
  int64_t sum = 0;
  for (int64_t i = 0; i < size; i++) sum += weights.layer.weight[output * size + i];
  return int32_t(uint32_t(weights.bias[output]) + uint32_t(less * sum));
}

std::unique_ptr<Block> pack(const Weights& weights, const Layout& l) {
  const Layer& layer = weights.layer;
  const std::vector<Panel> panels = panels_of(layer, l);
  const int64_t lanes = int64_t(panels.back().vector + panels.back().vectors) * l.form.lanes;
  const int64_t lane_bytes = int64_t(l.runs) * l.run_bytes * l.form.element;
  const int64_t header = (sizeof(Packed) + panels.size() * sizeof(Panel) + 63) / 64 * 64;
  auto block = std::make_unique<Block>(header + lanes * (8 + lane_bytes) + 64);
  auto* bias = reinterpret_cast<int32_t*>(block->data() + header);
  auto* multiplier = reinterpret_cast<float*>(bias + lanes);
  uint8_t* bytes = block->data() + (header + lanes * 8 + 63) / 64 * 64;
  auto* panel = reinterpret_cast<Panel*>(block->data() + sizeof(Packed));
  for (size_t i = 0; i < panels.size(); i++) {
    panel[i] = panels[i];
    panel[i].weights = bytes + panels[i].vector * l.form.lanes * lane_bytes;
    fill(layer, l, panels[i], bytes + panels[i].vector * l.form.lanes * lane_bytes);
    for (int32_t o = 0; o < panels[i].outputs; o++) {
      bias[panels[i].vector * l.form.lanes + o] = bias_of(weights, panels[i].output + o, l.form.less);
      multiplier[panels[i].vector * l.form.lanes + o] = layer.multiplier[panels[i].output + o];
    }
  }
  new (block->data()) Packed{int32_t(panels.size()), l.runs, l.run_bytes, largest_result(weights),
                             panel, bias, multiplier};
  return block;
}

}  // namespace

bool pack_dense(Step& step, const Form& widest) {
  const Instruction& code = step.code;
  const bool residual = code.flags & RESIDUAL, floats = code.flags & (FLOAT_OUT | SUMS_OUT);
  if (code.flags & SUMS_OUT && !widest.sums) return false;
  Form form = widest;
  if (panel_of(code)) form.vectors = std::max(1, form.vectors / 2);
  if (step.in.element != 1 || step.in.channel != 1 || step.out.channel != step.out.element ||
      step.out.element != (floats ? 4 : 1) || (residual && step.other.channel != 1))
    return false;
  const Layout l = layout_of(step, form);
  const int64_t key = int64_t(1) << 62 | int64_t(l.kx_bytes) << 16 | l.joined << 15 |
                      form.isa << 12 | form.element << 8 | form.vectors << 4 | form.unit >> 4;
  step.packed =
      step.weights->packed(key, [&l](const Weights& weights) { return pack(weights, l); });
  // Beyond this, a conversion to an integer would give the wrong end of the range.
  const double sum = double(packed_of(step).largest) + (residual ? 255.0 * std::abs(code.m1) : 0);
  if (!floats && !(sum < double(1 << 30))) return false;
  step.numbers.assign(3, 1);
  for (int32_t ky = 0; ky < code.kh; ky++)
    for (int32_t kx = 0; kx < (l.joined ? 1 : code.kw); kx++)
      step.numbers.push_back(int32_t((ky * code.dh - code.ph) * step.in.row +
                                     (kx * code.dw - code.pw) * step.in.pixel));
  return true;
}

// Eight pieces of 4 microseconds and more, or as many as take 24: each reads its part of weights or
// activations again. They are rows where activations are more than weights, so that each thread
// reads its own; else panels, so that each reads its own weights.
void split_dense(Step& step, int32_t rows, int32_t images, double rate) {
  const Packed& packed = packed_of(step);
  const Layer& layer = step.weights->layer;
  const double weights = double(layer.outputs) * layer.inputs * layer.kh * layer.kw;
  const double pixels = double(images) * step.out.h * step.out.w;
  // Besides products: 8 results, or 40 bytes of weights, in a nanosecond.
  const double time = weights * pixels / rate + pixels * layer.outputs / 8 + weights / 40;
  const double pieces = std::max(std::min(8.0, time / 4000), std::min(64.0, time / 24000)) /
                        chunk_size(step);
  const bool heavy = weights > double(images) * step.in.h * step.in.w * step.in.c;
  const bool by_panels = heavy != (split_of(step.code) == ACROSS);
  const int32_t most = by_panels ? packed.panels : rows;
  const int32_t first = std::max(1, std::min(most, int32_t(pieces)));
  const int32_t second = std::max(1, std::min(rows, int32_t(pieces / first)));
  step.numbers[0] = rows;
  step.numbers[1] = by_panels ? second : first;
  step.numbers[2] = by_panels ? first : std::min(packed.panels, second);
  step.chunks = step.numbers[1] * step.numbers[2];
}

void append_numbers(Step& step, const int32_t* numbers, int32_t count) {
  step.numbers.insert(step.numbers.end(), numbers, numbers + count);
}

const Packed& packed_of(const Step& step) { return *static_cast<const Packed*>(step.packed); }
const int32_t* runs_of(const Step& step) { return step.numbers.data() + 3; }

Share share_of(const Step& step, int32_t chunk) {
  const int64_t rows = step.numbers[0], row_chunks = step.numbers[1], parts = step.numbers[2];
  const int64_t panels = packed_of(step).panels, i = chunk % row_chunks, j = chunk / row_chunks;
  return {int32_t(rows * i / row_chunks), int32_t(rows * (i + 1) / row_chunks),
          int32_t(panels * j / parts), int32_t(panels * (j + 1) / parts)};
}

}  // namespace fxq
