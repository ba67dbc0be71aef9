// Weights are whole, and those of the step.
#include <cmath>

#include "check.h"

namespace fxq {

void check_weights(const Instruction& code, const View& in, const View& out, const Layer& layer) {
  require(code.kh == layer.kh && code.kw == layer.kw && code.groups == layer.groups,
          "the kernel's size or groups are not the layer's");
  require(int64_t{layer.inputs} * layer.groups == in.c && layer.outputs == out.c,
          "the values' channels are not the layer's");
  require(code.zero_in == layer.zero_in, "the zero point is not the layer's");
  require(!!layer.transposed == (code.op == TRANSPOSED), "the layer is of the other direction");
  if (code.op == DEPTHWISE)
    require(layer.inputs == 1 && layer.groups == layer.outputs, "the layer is not depthwise");
}

std::string check_layer(const Layer& layer) {
  for (const int32_t size : {layer.outputs, layer.inputs, layer.groups, layer.kh, layer.kw})
    if (!between(1, size, MOST_POSITION)) return "a size of the layer is not possible";
  if (layer.outputs % layer.groups) return "the groups do not divide the outputs";
  if (Wide{layer.inputs} * layer.groups > MOST_POSITION) return "the layer has too many inputs";
  if (Wide{layer.outputs} * layer.inputs > MOST_POSITION ||
      Wide{layer.outputs} * layer.inputs * layer.kh * layer.kw > MOST)
    return "the layer has too many weights";
  if (!between(0, layer.zero_in, 255)) return "the layer's zero point is no byte";
  if (!layer.weight || !layer.bias || !layer.multiplier) return "a part of the layer is missing";
  for (int32_t o = 0; o < layer.outputs; ++o)
    if (!std::isfinite(layer.multiplier[o])) return "a multiplier of the layer is not finite";
  return "";
}

}  // namespace fxq
