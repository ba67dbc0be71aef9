"""Trace a model and hold the graph to what the model itself computes on the example inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from fxq.compiler.verify import check_outputs, same_value
from fxq.errors import ConfigError, TraceError, VerificationError
from fxq.frontend.nests import Nest, flatten
from fxq.frontend.outputs import settle_outputs
from fxq.frontend.private_copy import private_copy
from fxq.frontend.record_shapes import record_shapes
from fxq.frontend.repeatable import cause_of
from fxq.frontend.signature import Signature, call_with
from fxq.frontend.source_lines import line_of, line_of_code
from fxq.frontend.state import state_of
from fxq.frontend.trace import Traced, advice_on, trace
from fxq.ir.stages import Effect
from fxq.runtime.python import build


def capture(model: nn.Module, twin: nn.Module, signature: Signature,
            inputs: Sequence[Tensor]) -> tuple[Traced, list[Any]]:
    """The FLOAT graph of a private copy `twin`, and its outputs for the example inputs.

    Raises TraceError for a model that fails, cannot be traced, or does not compute the same from
    the same input; VerificationError when the graph is not the model.
    """
    try:
        traced = trace(twin, signature)
        values = record_shapes(traced.graph_module, _clones(inputs))
    except TraceError as error:
        raise _own_failure(model, signature, inputs, error) or error from error.__cause__
    traced, outputs = settle_outputs(traced, values)
    _check(twin, traced, inputs, outputs)
    return traced, outputs


def given_inputs(model: nn.Module, signature: Signature, args: tuple[Any, ...],
                 kwargs: Mapping[str, Any] | None) -> list[Tensor]:
    """The example inputs; raises ConfigError for tensors, TraceError for models without values."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise TraceError(f"{name} is on the meta device, and has no values",
                             why="weights are folded, measured and quantized by their values",
                             fix="model.to_empty(device=\"cpu\"), then load_state_dict(...)")
    tensors = signature.tensors(args, kwargs or {})
    for name, x in zip(signature.names, tensors, strict=True):
        kind = next((text for text, holds in _unusable(x) if holds), "")
        if kind:
            raise ConfigError(f"the example input {name!r} is {kind}",
                              why="example inputs are run through the model",
                              fix="pass a dense tensor with values, such as torch.randn(...)")
    return tensors


def _unusable(x: Tensor) -> tuple[tuple[str, bool], ...]:
    return (("on the meta device, and has no values", x.is_meta), ("nested", x.is_nested),
            (f"of layout {x.layout}", x.layout is not torch.strided),
            ("quantized", x.is_quantized))


def _clones(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies, because a model may write into its inputs, and these are the user's."""
    return [t.clone() for t in tensors]


def _own_failure(model: nn.Module, signature: Signature, inputs: Sequence[Tensor],
                 found: TraceError) -> TraceError | None:
    """The error to raise when the model itself fails on the example inputs, traced or not."""
    try:
        with torch.no_grad():
            call_with(signature, private_copy(model), _clones(inputs))
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
        place = f"; {found.what}" if "fails at" in found.what else ""
        return TraceError(f"{type(model).__name__} itself fails on the example inputs",
                          where=line_of(error) or found.where, why=text + place, fix=advice_on(
                              text, "check that the example inputs are what the model takes"))
    return None


def _check(model: nn.Module, traced: Traced, inputs: Sequence[Tensor],
           outputs: Sequence[Any]) -> None:
    """The graph computes, bit for bit, what the model computes, in its first call and later."""
    state = state_of(model)
    eager = _eager(model, traced, inputs)
    kept = traced.kept or state.changed()
    if not _agree(traced, eager, outputs):
        _refuse(model, traced, inputs, eager, outputs, kept)
    if kept:  # what a call leaves behind may be read by the next one
        others = [x * 0.5 if x.is_floating_point() else x for x in inputs]
        eager, expected = _second(model, traced, others)
        if not _agree(traced, eager, expected):
            _refuse(model, traced, others, eager, expected, kept, differs=True)
    state.restore()


def _eager(model: nn.Module, traced: Traced, inputs: Sequence[Tensor]) -> Any:
    with torch.no_grad():
        return call_with(traced.convention.signature, model, _clones(inputs))


def _second(model: nn.Module, traced: Traced, inputs: Sequence[Tensor]) -> tuple[Any, list[Any]]:
    """What the model gives in a second call, and the graph for the same inputs."""
    with torch.no_grad():
        expected = list(build(traced.graph_module)(*_clones(inputs)))
    return _eager(model, traced, inputs), expected


def _agree(traced: Traced, eager: Any, outputs: Sequence[Any]) -> bool:
    """The same nest, and in it the same bits and values."""
    leaves, nest = flatten(eager)
    expected = _rebuilt(traced, outputs)
    return expected is not None and same_value(expected[1], nest) and all(
        same_value(a, b) for a, b in zip(expected[0], leaves, strict=True))


def _rebuilt(traced: Traced, outputs: Sequence[Any]) -> tuple[list[Any], Nest] | None:
    """Leaves and nest of what the compiled model would return; None when it cannot be built."""
    try:
        return flatten(traced.convention.outputs(iter(outputs)))
    except Exception:  # a class of the user's own, whose constructor may do anything
        return None


def _refuse(model: nn.Module, traced: Traced, inputs: Sequence[Tensor], eager: Any,
            outputs: Sequence[Any], kept: tuple[str, ...], differs: bool = False) -> NoReturn:
    """Raise for the model's own doing (random numbers, state, odd outputs), or fxq's fault."""
    def again() -> Any:
        return _eager(model, traced, inputs)

    leaves, nest = flatten(eager)
    repeated = flatten(again())[0]
    differs = differs or not all(map(same_value, _values(leaves), _values(repeated)))
    cause = cause_of(model, again, differs=differs, kept=kept)
    if cause is not None:
        raise cause
    mine = _rebuilt(traced, outputs)
    if mine is None or not same_value(mine[1], nest):
        raise _odd(model, "its outputs, nested as they are, cannot be made again", eager)
    for value, expected in zip(mine[0], leaves, strict=True):
        if not isinstance(value, _VALUES) and not same_value(value, expected):
            raise _odd(model, f"fxq does not look into a {type(expected).__name__}", expected)
    check_outputs("trace", Effect.EXACT, leaves, mine[0])
    raise VerificationError("the traced graph does not compute what the model computes",
                            fix="this is a fault of fxq; please report it")


_VALUES = (Tensor, int, float, complex)


def _values(leaves: Sequence[Any]) -> list[Any]:
    return [v for v in leaves if isinstance(v, _VALUES)]


def _odd(model: nn.Module, why: str, value: Any) -> TraceError:
    return TraceError(f"the model returns a {type(value).__name__} that fxq cannot return",
                      where=line_of_code(type(model).forward), why=why,
                      fix="return tensors and numbers in tuples, lists, dicts with fixed keys, "
                          "named tuples or dataclasses")
