"""Turn a FUSED graph into the function that training runs: rounded values, live parameters.

The graph is edited into calls of small closures and compiled to flat Python, as every graph is.
All tensors are read from the trained model at each call, so that optimizers, checkpoints and
devices work as with any module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import Node

from fxq.analysis.context import Context
from fxq.analysis.formats import weight_axis
from fxq.analysis.overrides import scheme_of
from fxq.analysis.placement import Placement, place
from fxq.analysis.saturation import pairing_for
from fxq.analysis.value_formats import fixed_format, format_groups, sources_of, value_spec
from fxq.ir.facts import dropouts_behind, info, move_dropouts, unfolded
from fxq.ir.ops import Kind, base_name, op_of
from fxq.ir.origins import Norm
from fxq.ir.rewriter import Rewriter, constant_of
from fxq.passes.cast_half import why_not_half
from fxq.passes.convert import drop_observers
from fxq.qat.layer import Layer, NormNames
from fxq.quantization.schemes import Mode
from fxq.runtime.python import Function, build


@dataclass(frozen=True)
class Group:
    """Values that share one format: their keys, the keys that are observed, and the format."""

    name: str
    keys: tuple[str, ...]
    observed: frozenset[str]
    spec: Any
    fixed: Any


@dataclass
class Plan:
    """What training must round: groups of values, layers, and the edited graph."""

    groups: list[Group] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    dropouts: list[str] = field(default_factory=list)  # those that could not be placed


Hooks = dict[str, Callable[..., Any]]


def plan_groups(module: fx.GraphModule, placement: Placement, context: Context) -> list[Group]:
    """The values that the compiled model will keep as integers (or in half precision)."""
    if context.scheme.mode is Mode.HALF:
        dtype = getattr(torch, context.scheme.half)
        nodes = [n for n in module.graph.nodes if n.op.startswith("call_")
                 and info(n).is_float_tensor and why_not_half(n, dtype, context) is None]
        inputs = [n for n in module.graph.nodes if n.op == "placeholder" and any(
            u in nodes for u in n.users)]
        return [Group(_name([n]), (info(n).value,), frozenset(), None, None)
                for n in (*inputs, *nodes)]
    groups = []
    for members in format_groups(module, placement):
        spec = value_spec(members, placement, context.scheme)
        observed = frozenset(info(n).value for n in sources_of(members))
        groups.append(Group(_name(members), tuple(info(n).value for n in members), observed, spec,
                            fixed_format(members, spec)))
    return groups


def _name(members: list[Node]) -> str:
    """A name that a module may have, from the first value of a group."""
    return info(members[0]).value.replace(".", "_").replace("%", "value")


def names_of_tensors(model: nn.Module) -> dict[int, str]:
    """Paths of all parameters and buffers by their memory; tied ones have the first path."""
    found: dict[int, str] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found.setdefault(tensor.data_ptr(), name)
    return found


def layer_of(node: Node, names: dict[int, str], model: nn.Module, placement: Placement,
             context: Context) -> Layer | None:
    """The training form of a convolution, linear layer or norm; None for everything else."""
    op, origin = op_of(node), unfolded(node)
    if op is None or (op.kind is not Kind.MAC and origin is None):
        return None
    weight, bias = (origin.weight, origin.bias) if origin else (
        constant_of(node.args[1]), constant_of(node.args[2]))
    if weight is None or weight.data_ptr() not in names:
        return None
    scheme = scheme_of(node, context.scheme)
    rounded = node in placement.integer or node in placement.weight_only
    half = getattr(torch, scheme.half) if scheme.half and (
        why_not_half(node, getattr(torch, scheme.half), context) is None) else None
    pairing = pairing_for(node, placement.rows[node], context) if (
        node in placement.integer) else None
    return Layer(
        info(node).value, op, dict(node.kwargs), names[weight.data_ptr()],
        "" if bias is None else names[bias.data_ptr()],
        norm_names(origin.norm, names, model) if origin else None,
        scheme.weight if rounded else None, scheme.weight_calibrator,
        weight_axis(node, context), pairing, half)


def norm_names(norm: Norm, names: dict[int, str], model: nn.Module) -> NormNames:
    """The paths behind a batch norm's tensors, and its module where torch's own made it."""
    def path(tensor: Tensor | None) -> str:
        return "" if tensor is None else names[tensor.data_ptr()]

    owner = path(norm.mean).rpartition(".")[0]
    known = isinstance(model.get_submodule(owner), nn.modules.batchnorm._BatchNorm)
    return NormNames(owner if known else "", path(norm.mean), path(norm.var), path(norm.weight),
                     path(norm.bias), norm.eps, norm.momentum)


def build_program(module: fx.GraphModule, context: Context, model: nn.Module,
                  copy: nn.Module, hooks: Hooks) -> tuple[Function, Plan]:
    """(the function of flat inputs, what it rounds).

    `module` is the FUSED graph of `copy`, a copy of `model`. `hooks` make the closures:
    tensor(path), constant(name, tensor), layer(layer), norm(names), quantize(group, observe),
    submodule(path), dropout(dropout).
    """
    rewriter = Rewriter(module)
    drop_observers(rewriter)
    placement = _placement(module, context)
    plan = Plan(plan_groups(module, placement, context))
    names = names_of_tensors(copy)
    _insert_quantizers(module, placement, context, plan, hooks, rewriter)
    for node in list(module.graph.nodes):
        _make_trainable(node, names, model, placement, context, plan, hooks, rewriter)
    for node in list(module.graph.nodes):
        _apply_dropouts(node, plan, hooks, rewriter)
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            _read_live(node, names, hooks, rewriter)
    return build(module), plan


def _placement(module: fx.GraphModule, context: Context) -> Placement:
    if context.scheme.mode is Mode.HALF:
        return Placement(frozenset(), frozenset(), {})
    return place(module, context)


def _insert_quantizers(module: fx.GraphModule, placement: Placement, context: Context, plan: Plan,
                       hooks: Hooks, rewriter: Rewriter) -> None:
    """Round each value of a group once, for those who read it as integers."""
    nodes = {info(n).value: n for n in module.graph.nodes if n.op not in ("get_attr", "output")}
    half = context.scheme.mode is Mode.HALF
    for group in plan.groups:
        for key in group.keys:
            node = nodes[key]
            if _stays_on_grid(node) and key not in group.observed and not half:
                continue
            readers = [u for u in node.users if half or node in placement.integer
                       or u in placement.integer]
            call = hooks["quantize"](group.name, key, key in group.observed)
            new = rewriter.call(call, (node,), {}, like=node)
            if len(readers) == len(node.users) - 1:
                move_dropouts(node, new)
            rewriter.insert_between(node, readers, new)


def _make_trainable(node: Node, names: dict[int, str], model: nn.Module, placement: Placement,
                    context: Context, plan: Plan, hooks: Hooks, rewriter: Rewriter) -> None:
    origin = unfolded(node)
    layer = layer_of(node, names, model, placement, context)
    if layer is not None:
        plan.layers.append(layer)
        new = rewriter.call(hooks["layer"](layer), (node.args[0],), {}, like=node, before=node)
    elif origin is not None and base_name(node) == "affine":
        norm, activation = norm_names(origin.norm, names, model), op_of(node).activation  # type: ignore[union-attr]
        new = rewriter.call(hooks["norm"](norm, activation, dict(node.kwargs)), (node.args[0],),
                            {}, like=node, before=node)
    elif node.op == "call_module":
        new = rewriter.call(hooks["submodule"](str(node.target)), node.args, dict(node.kwargs),
                            like=node, before=node)
    else:
        return
    rewriter.replace(node, new, "live")


def _apply_dropouts(node: Node, plan: Plan, hooks: Hooks, rewriter: Rewriter) -> None:
    last = node
    for dropout in dropouts_behind(node):
        if dropout.shared:
            plan.dropouts.append(dropout.path)
            continue
        readers = list(last.users)
        new = rewriter.call(hooks["dropout"](dropout), (last,), {}, like=last)
        rewriter.insert_between(last, readers, new)
        last = new


def _read_live(node: Node, names: dict[int, str], hooks: Hooks, rewriter: Rewriter) -> None:
    tensor = constant_of(node)
    if tensor is None:
        return
    if not node.users:
        rewriter.erase(node)
        return
    path = names.get(tensor.data_ptr()) if tensor.numel() else None
    call = hooks["tensor"](path) if path else hooks["constant"](str(node.target), tensor)
    new = rewriter.call(call, (), {}, like=node, before=node)
    node.replace_all_uses_with(new)
    rewriter.erase(node)


def _stays_on_grid(node: Node) -> bool:
    """It selects or moves values: what was rounded before needs no rounding."""
    op = op_of(node)
    return op is not None and op.on_grid
