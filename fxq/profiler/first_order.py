"""What each rounding does to the outputs, to first order, from one pass over the data.

A rounding moves a value by ε, and the outputs z by J·ε. Along a direction v of the outputs that is
v·J·ε = (Jᵀ·v)·ε, and one backward pass gives Jᵀ·v for every value of the FUSED graph at once. So no
layer needs a network of its own. There are three directions for each image:

  signs    random signs: the mean square is |J·ε|² (Hutchinson 1990), the noise that SQNR counts
  fisher   the gradient of log p of a class drawn from the model's own p: half of the mean square is
           the KL divergence to second order (FIT, Zandonati et al., arXiv 2210.08502, which takes
           E[g²]·E[ε²]; here ε is the real error, so that errors that do not cancel are counted)
  margin   the best class less the second best: how far each image moves towards another answer

ε is what the formats of `choose_formats` make of a value, and what the rounded weights of a layer
add to its result, less the mean that correct-bias takes back. Errors of different channels are
taken as independent, those inside of one as they are: the sum over channels of squared products has
the mean of the squared sum, and scatters far less from image to image. A value that some of its
readers take in float counts as rounded for all of them: beside a shortcut that is too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.formats import Formats, choose_formats
from fxq.analysis.overrides import scheme_of
from fxq.analysis.placement import Placement
from fxq.analysis.value_formats import format_groups, sources_of, value_spec
from fxq.compiler.prepare import Prepared
from fxq.errors import CalibrationError, ConfigError
from fxq.ir.facts import info
from fxq.ir.graph_module import copy_of
from fxq.ir.integers import dequantize, dequantize_weight, qparams_kwargs, quantize
from fxq.ir.ops import Kind, attribute, base_of, groups_of, op_of
from fxq.ir.rewriter import Rewriter, constant_of
from fxq.passes.convert import drop_observers
from fxq.passes.correct_bias import shift_of
from fxq.quantization.formats import QParams, QSpec
from fxq.quantization.schemes import Scheme, get_scheme
from fxq.quantization.statistics import Statistics
from fxq.quantization.weights import IntegerWeight
from fxq.system.torch_state import isolated

SIGNS, FISHER, MARGIN = range(3)
_CHUNK = 4  # images whose values and gradients are alive at once, unless the example has more


class Rounding(NamedTuple):
    """Of what: "weight" of the layer that makes a value, or the "value" itself; and how.

    `form` are the integers, and of a weight the rule that chose its scales.
    """

    kind: str
    value: str  # canonical key
    form: str


@dataclass(frozen=True)
class Effects:
    """The square of each rounding's move of each image: (images, 3), by SIGNS, FISHER, MARGIN.

    `outputs` are float's, (images, numbers). `classes` says that they are logits; without it only
    SIGNS means anything.
    """

    outputs: Tensor
    classes: bool
    squares: Mapping[Rounding, Tensor]

    def total(self, roundings: Iterable[Rounding]) -> Tensor:
        """All of them together, (images, 3): squares of independent moves add up."""
        known = [self.squares[r] for r in roundings if r in self.squares]
        return torch.stack([torch.zeros(len(self.outputs), 3), *known]).sum(0)


def fused_graph_of(prepared: Prepared) -> fx.GraphModule:
    """The FUSED graph: the OBSERVED one without its observers."""
    module = copy_of(prepared.graph_module)
    drop_observers(Rewriter(module))
    return module


def context_for(prepared: Prepared, statistics: Statistics, name: str) -> Context:
    """The surroundings in which all layers have one scheme, with the calibrator of the whole."""
    whole = prepared.context.scheme
    scheme = replace(whole, overrides={}) if name == whole.name else replace(
        get_scheme(name), activation_calibrator=whole.activation_calibrator)
    return replace(prepared.context, scheme=scheme, statistics=statistics)


def first_order(prepared: Prepared, statistics: Statistics, batches: Iterable[list[Tensor]],
                formats: Mapping[str, Formats], module: fx.GraphModule,
                seed: int = 0) -> Effects:
    """The effects of all roundings by the schemes that `formats` has.

    Raises CalibrationError for no batches, ConfigError for a model without float outputs.
    """
    generator = torch.Generator().manual_seed(seed)
    errors = [_Errors(known, context_for(prepared, statistics, name))
              for name, known in formats.items()]
    step = max(_CHUNK, len(prepared.inputs[0]))
    outputs: list[Tensor] = []
    squares: dict[Rounding, list[Tensor]] = {}
    with isolated():
        for inputs in _chunks(batches, step):
            out, found = _moved(module, inputs, errors, generator)
            outputs.append(out)
            for rounding, moved in found.items():
                squares.setdefault(rounding, []).append(moved)
    if not outputs:
        raise CalibrationError("sensitivity needs at least one batch",
                               fix="pass a list or a DataLoader")
    whole = torch.cat(outputs)
    return Effects(whole.flatten(1), whole.dim() == 2 and whole.shape[1] > 1,
                   {r: torch.cat(parts) for r, parts in squares.items()})


def _chunks(batches: Iterable[list[Tensor]], step: int) -> Iterator[list[Tensor]]:
    for batch in batches:
        sizes = {len(x) for x in batch if x.dim()}
        if len(sizes) != 1:
            yield batch
            continue
        yield from (list(part) for part in zip(*(torch.split(x, step) for x in batch), strict=True))


class _Values(fx.Interpreter):
    """Runs a graph and keeps the float tensors that are asked for."""

    def __init__(self, module: fx.GraphModule, wanted: set[Node]) -> None:
        super().__init__(module)
        self.extra_traceback, self.wanted, self.seen = False, wanted, dict[Node, Tensor]()

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted and isinstance(value, Tensor):
            if not value.requires_grad:
                value = value.detach().requires_grad_()
            self.seen[n] = value
        return value


def _moved(module: fx.GraphModule, inputs: Sequence[Tensor], errors: Sequence[_Errors],
           generator: torch.Generator) -> tuple[Tensor, dict[Rounding, Tensor]]:
    """Float's outputs for one chunk, and the square of each rounding's moves of them."""
    wanted = {n for e in errors for n in e.nodes()}
    runner = _Values(module, wanted)
    with torch.enable_grad():
        floats = [v for v in runner.run(*inputs)
                  if isinstance(v, Tensor) and v.is_floating_point()]
        if not floats:
            raise ConfigError("the model returns no float tensor whose error could be predicted")
        out = floats[0]
    values = {n: v.detach() for n, v in runner.seen.items()}
    gradients = [torch.autograd.grad(out, list(runner.seen.values()), direction.view_as(out),
                                     retain_graph=True, allow_unused=True)
                 for direction in _directions(out.detach(), generator)]
    by_node = {n: [g[i] for g in gradients] for i, n in enumerate(runner.seen)}
    found = dict[Rounding, Tensor]()
    for known in errors:
        for rounding, node, error in known.of(values):
            if rounding not in found:  # schemes may share integers
                moved = error()
                found[rounding] = torch.stack(
                    [_square(g, moved, len(out)) for g in by_node[node]], 1)
    return out.detach(), found


def _directions(out: Tensor, generator: torch.Generator) -> list[Tensor]:
    flat = out.flatten(1) if out.dim() > 1 else out.reshape(1, -1)
    signs = torch.randint(0, 2, flat.shape, generator=generator).float() * 2 - 1
    if flat.shape[1] < 2 or out.dim() != 2:
        return [signs, torch.zeros_like(flat), torch.zeros_like(flat)]
    p = flat.softmax(1)
    drawn = torch.multinomial(p, 1, generator=generator)
    best = flat.topk(2, 1).indices
    margin = torch.zeros_like(flat).scatter_(1, best[:, :1], 1.0).scatter_(1, best[:, 1:], -1.0)
    return [signs, (-p).scatter_add_(1, drawn, torch.ones_like(p[:, :1])), margin]


def _square(gradient: Tensor | None, error: Tensor, images: int) -> Tensor:
    """Of the inner product, channel by channel, for each image; spread over all where it has none.
    """
    if gradient is None:
        return torch.zeros(images)
    product = gradient * error
    if not product.numel() or not product.dim() or product.shape[0] % images:
        return (product.sum().square() / images).expand(images)
    channels = product.flatten(2).sum(2) if product.dim() > 2 else product
    return channels.reshape(images, -1).square().sum(1)


class _Errors:
    """The rounding errors of one scheme; of all values, since a mixture may round any of them."""

    def __init__(self, formats: Formats, context: Context) -> None:
        self.values = formats.values
        self.layers = {n: _weight_error(n, w, context) for n, w in formats.weights.items()}
        self.form = weight_form(context.scheme)

    def nodes(self) -> set[Node]:
        """All whose values and gradients are needed."""
        return {*self.values, *self.layers, *(n.args[0] for n in self.layers)}  # type: ignore[arg-type]

    def of(self, values: Mapping[Node, Tensor],
           ) -> Iterator[tuple[Rounding, Node, Callable[[], Tensor]]]:
        """Each rounding, the node whose value it moves, and by how much, for one chunk."""
        for node, format_ in self.values.items():
            yield (Rounding("value", info(node).value, form_of(format_)), node,
                   partial(_of_value, values[node], format_))
        for node, (error, shift) in self.layers.items():
            source = node.args[0]
            assert isinstance(source, Node)
            yield (Rounding("weight", info(node).value, self.form), node,
                   partial(_of_layer, node, values[source], values[node], error, shift))


def form_of(integers: QParams | QSpec) -> str:
    """The integers that a value is rounded to."""
    return f"{integers.low} to {integers.high}"


def weight_form(scheme: Scheme) -> str:
    """The integers that a weight is rounded to; schemes may share them."""
    return f"{scheme.weight} by {scheme.weight_calibrator}"


def _of_value(value: Tensor, format_: QParams) -> Tensor:
    kwargs = qparams_kwargs(format_)
    rounded: Tensor = dequantize(quantize(value, **kwargs), **kwargs)
    return rounded - value


def _weight_error(node: Node, integer: IntegerWeight,
                  context: Context) -> tuple[Tensor, Tensor | None]:
    """(what rounding adds to the weight, to the mean of each output channel)."""
    weight, op = constant_of(node.args[1]), op_of(node)
    assert weight is not None and op is not None
    error = dequantize_weight(integer.values, integer.scales, integer.zeros,
                              axis=op.channel_axis) - weight
    known = context.statistics.get(info(node.args[0]).value)  # type: ignore[arg-type]
    means = known.channel_means() if known else None
    if not context.scheme.correct_bias or op.transposed or means is None or (
            len(means) != weight.shape[1] * groups_of(node)):
        return error, None
    return error, shift_of(error, torch.from_numpy(means), groups_of(node)).float()


def _of_layer(node: Node, source: Tensor, result: Tensor, error: Tensor,
              shift: Tensor | None) -> Tensor:
    """How the error of its weight moves a layer's result; nothing moves behind its activation."""
    op = op_of(node)
    assert op is not None
    base, activation = base_of(op)
    kwargs = {k: v for k, v in node.kwargs.items() if k in base.attributes}
    moved: Tensor = base.call(source, error, None if shift is None else -shift, **kwargs)
    if activation is None:
        return moved
    low, high = (0.0, None) if op.rectified else (
        attribute(node, "min"), attribute(node, "max"))
    if low is not None:
        moved = moved * (result > low)
    return moved if high is None else moved * (result < high)


def formats_for(prepared: Prepared, statistics: Statistics, module: fx.GraphModule,
                schemes: Iterable[str]) -> dict[str, Formats]:
    """What each scheme alone would decide for all layers."""
    return {name: choose_formats(module, context_for(prepared, statistics, name))
            for name in dict.fromkeys(schemes)}


def roundings(module: fx.GraphModule, placement: Placement, scheme: Scheme) -> set[Rounding]:
    """What is rounded where nodes are placed like that; what only moves is not rounded again."""
    weighted = placement.integer | placement.dynamic | placement.weight_only
    found = {Rounding("weight", info(n).value, weight_form(scheme_of(n, scheme))) for n in weighted
             if (op := op_of(n)) is not None and op.kind is Kind.MAC}
    for members in format_groups(module, placement):
        form = form_of(value_spec(members, placement, scheme))
        own = {*sources_of(members), *(n for n in members if n in placement.integer
                                       and (op := op_of(n)) is not None and op.averages)}
        found |= {Rounding("value", info(n).value, form) for n in own}
    return found


__all__ = ["FISHER", "MARGIN", "SIGNS", "Effects", "Rounding", "context_for", "first_order",
           "formats_for", "fused_graph_of", "roundings", "weight_form"]
