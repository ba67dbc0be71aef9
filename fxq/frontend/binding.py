"""Bind one traced call, in any spelling, to its canonical operator, operands and attributes."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from fxq.frontend.spellings import (
    ASSERTION,
    IDENTITY,
    METHODS,
    MODULES,
    Spelling,
    function_spelling,
)
from fxq.ir.facts import info
from fxq.ir.ops import OPS, SPLITTERS

_IGNORED = {"inplace", "_stacklevel", "p", "memory_format"}
_MUST_BE: Mapping[str, Any] = {  # parameters without a canonical place, and their neutral value
    "alpha": 1, "out": None, "dtype": None, "rounding_mode": None, "training": False,
    "return_indices": False}
_SPATIAL = {"stride", "padding", "dilation", "output_padding", "kernel_size", "output_size"}
_TURNED = {"add": "add", "mul": "mul", "sub": "rsub"}  # with the number on the left


@dataclass(frozen=True)
class Call:
    """A canonical call: operands in the order of the table, attributes by name."""

    op: str
    operands: tuple[Any, ...]
    attributes: Mapping[str, Any]
    in_place: bool = False
    padding_mode: str = "zeros"


def bind_function(node: Node) -> Call | None:
    """The canonical form of a function call, or None when it has none."""
    if node.target is builtins.getattr and node.args[1:] == ("shape",):
        return Call("size", (node.args[0],), {})
    spelling = function_spelling(node.target)
    if spelling is None:
        return None
    if node.target is not None and getattr(node.target, "__name__", "").startswith("dropout"):
        spelling = _with_default(spelling, "training", True)
    return _bind(node, spelling, node.args)


def bind_method(node: Node) -> Call | None:
    """The canonical form of a tensor method, or None."""
    spelling = METHODS.get(str(node.target))
    return _bind(node, spelling, node.args) if spelling else None


def _with_default(spelling: Spelling, name: str, value: Any) -> Spelling:
    return Spelling(spelling.op, spelling.parameters, spelling.fixed, spelling.in_place,
                    spelling.variadic, {**spelling.defaults, name: value})


def _bind(node: Node, spelling: Spelling, args: tuple[Any, ...]) -> Call | None:
    if spelling.op == ASSERTION:
        return Call(ASSERTION, (), {})
    values = _by_name(spelling, args, node.kwargs)
    if values is None or not _is_neutral(values):
        return None
    in_place = spelling.in_place or values.get("inplace") is True
    if spelling.op == IDENTITY:
        return Call(IDENTITY, (args[0] if args else values["input"],), {}, in_place)
    return _canonical(spelling, values, in_place)


def _by_name(spelling: Spelling, args: tuple[Any, ...],
             kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """All given values by parameter name; None when they do not fit the spelling."""
    names = spelling.parameters.split() or list(
        OPS[spelling.op].parameters if spelling.op in OPS else ("input",))
    if spelling.variadic and len(args) > 1 and not isinstance(args[1], list | tuple):
        place = names.index(spelling.variadic)
        args = (*args[:place], tuple(args[place:]))
    if len(args) > len(names):
        return None
    renamed = {"axis": "dim", "x": "input", "self": "input", "size": "shape"}
    given = {k if k in names else renamed.get(k, k): v for k, v in kwargs.items()}
    if set(given) - set(names) - _IGNORED - set(_MUST_BE):
        return None
    return {**spelling.defaults, **dict(zip(names, args, strict=False)), **given}


def _is_neutral(values: Mapping[str, Any]) -> bool:
    return all(values.get(name, neutral) == neutral for name, neutral in _MUST_BE.items()
               if name != "training" or "running_mean" not in values)


def _canonical(spelling: Spelling, values: dict[str, Any], in_place: bool) -> Call | None:
    op = OPS[spelling.op]
    attributes = {k: _plain(k, v) for k, v in values.items() if k in op.attributes}
    operands = tuple(values.get(name) for name in op.operands)
    first = operands[0]
    if op.name == "getitem" and isinstance(first, Node) and _is_splitter(first):
        return _part(first, attributes["index"])
    if op.name == "getitem" and isinstance(first, Node) and _is_size(first):
        return Call("size", (first.args[0],), {"dim": attributes["index"]})
    if op.name in _TURNED and not isinstance(operands[0], Node):
        op, operands = OPS[_TURNED[op.name]], (operands[1], operands[0])
    if not _reads_tensor(op.name, operands):
        return None
    return Call(op.name, operands, {**attributes, **spelling.fixed}, in_place)


def _is_size(node: Node) -> bool:
    return node.target is OPS["size"].call and node.kwargs.get("dim") is None


def _is_splitter(node: Node) -> bool:
    return node.op in ("call_function", "call_method") and (
        node.target in SPLITTERS)


def _part(splitter: Node, index: Any) -> Call | None:
    """One part of a chunk or split along the channels; other dimensions may change with input."""
    given: tuple[Any, ...] = (*splitter.args, None, None, None)
    source, amount, dim = given[:3]
    kwargs: dict[str, Any] = dict(splitter.kwargs)
    dim = kwargs.pop("dim", dim) or 0
    amount = next(iter(kwargs.values()), amount)  # chunks, split_size or split_size_or_sections
    shape = info(source).shape if isinstance(source, Node) else None
    if shape is None or dim % len(shape) != 1 or not _are_numbers(index, amount):
        return None
    sizes = _part_sizes(shape[1], amount, SPLITTERS[splitter.target])
    place = index % len(sizes)
    return Call("narrow", (source,), {"dim": 1, "start": sum(sizes[:place]),
                                      "length": sizes[place]})


def _are_numbers(*values: Any) -> bool:
    """Known when traced: none follows from the size of an input."""
    return all(isinstance(n, int) for v in values for n in (
        v if isinstance(v, list | tuple) else (v,)))


def _part_sizes(total: int, amount: Any, kind: str) -> list[int]:
    if isinstance(amount, list | tuple):
        return list(amount)
    size = -(-total // amount) if kind == "chunks" else amount
    return [min(size, total - start) for start in range(0, total, size)]


def _reads_tensor(op: str, operands: tuple[Any, ...]) -> bool:
    """The first operand is a tensor (or a list of them, or parts of a split tensor)."""
    first = operands[0]
    if OPS[op].operands == ("tensors",):
        return isinstance(first, list | tuple) and all(isinstance(v, Node) for v in first)
    return isinstance(first, Node | Tensor) and (
        isinstance(first, Tensor) or info(first).shape is not None)


def _plain(name: str, value: Any) -> Any:
    """One form for equal attributes: (2, 2) and [2, 2] and 2 are all 2."""
    if isinstance(value, list):
        value = tuple(value)
    if name in _SPATIAL and isinstance(value, tuple) and value and len(set(value)) == 1 and (
            value[0] is not None):
        return value[0]
    return value


def bind_module(node: Node) -> Call | None:
    """The canonical form of a leaf module's call, or None for what stays opaque."""
    assert node.graph.owning_module is not None
    module = node.graph.owning_module.get_submodule(str(node.target))
    spelling = MODULES.get(type(module))
    if spelling is None or len(node.args) + len(node.kwargs) != 1:
        return None
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    if spelling.op == IDENTITY:
        return Call(IDENTITY, (source,), {}, bool(getattr(module, "inplace", False)))
    op = OPS[spelling.op]
    given = [(n.split("=")[0], getattr(module, n.split("=")[-1]))
             for n in spelling.parameters.split()]
    values = dict(given)
    if not _is_neutral(values):
        return None
    attributes = {k: _plain(k, v) for k, v in values.items() if k in op.attributes}
    operands = (source, *(getattr(module, name, None) for name in op.operands[1:]))
    if op.name == "batch_norm":
        attributes |= {"training": module.training or module.running_mean is None,
                       "momentum": 0.1 if module.momentum is None else module.momentum}
    if op.name == "instance_norm":
        attributes["use_input_stats"] = module.training or module.running_mean is None
    if not _reads_tensor(op.name, operands):
        return None
    return Call(op.name, operands, {**attributes, **spelling.fixed},
                bool(getattr(module, "inplace", False)), getattr(module, "padding_mode", "zeros"))


__all__ = ["Call", "bind_function", "bind_method", "bind_module"]
