"""Compare what a graph computed before a pass with what it computes after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.errors import VerificationError
from fxq.ir.facts import REPLACED, info, qparams
from fxq.ir.printer import format_node
from fxq.ir.stages import Effect
from fxq.kernels import calls
from fxq.runtime.python import build
from fxq.system.memory import give_back
from fxq.system.torch_state import quiet

# A fold in float64 that is cast once moves each layer by float32 rounding (6e-8 relative); a
# network of a few hundred layers may add these up, and normalization may amplify them.
REASSOCIATION = 1e-4
_MADE = 1 << 25
Integers = Mapping[str, Tensor]


def run(module: fx.GraphModule, inputs: Sequence[Tensor]) -> tuple[Any, ...]:
    """The flat outputs of a graph; the inputs stay as they are, whatever it writes into."""
    with torch.no_grad():
        return tuple(build(module)(*(x.clone() for x in inputs)))


class _Integers(fx.Interpreter):
    """Runs a graph and keeps the integers of every quantized value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.values: dict[str, Tensor] = {}
        self.made = 0  # bytes, since memory was given back

    def outputs_for(self, inputs: Sequence[Tensor]) -> tuple[Any, ...]:
        with torch.no_grad(), quiet():
            return tuple(self.run(*(x.clone() for x in inputs)))

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if qparams(n) is not None:
            self.values[n.name] = plain(value)
        self.made += value.nbytes if isinstance(value, Tensor) else 0
        if self.made > _MADE:
            give_back()  # the kept integers settle between what is freed
            self.made = 0
        return value


class _Stepwise(_Integers):
    """Runs a graph operator by operator from reference integers; keeps the differences.

    As long as there are none, it computes what the graph does when it is run.
    """

    def __init__(self, module: fx.GraphModule, expected: Integers) -> None:
        super().__init__(module)
        self.expected = expected
        self.differences: list[tuple[int, Node]] = []

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        reference = self.expected.get(n.name, self.expected.get(REPLACED.of(n) or ""))
        format_ = qparams(n)
        if reference is None or format_ is None:
            return value
        found = self.values[n.name]
        difference = 0 if torch.equal(found, reference) else int(
            (found.int() - reference.int()).abs().max())
        self.differences.append((difference, n))
        if not difference:
            return value
        return calls.with_qparams(reference, format_) if value.is_quantized else reference


def plain(value: Tensor) -> Tensor:
    """The integers of a value, whether plain or in a kernel's own type."""
    return calls.integers_of(value) if value.is_quantized else value


def run_with_integers(module: fx.GraphModule,
                      inputs: Sequence[Tensor]) -> tuple[tuple[Any, ...], Integers]:
    """The flat outputs of a graph, and the integers of every quantized value, by node."""
    interpreter = _Integers(module)
    return interpreter.outputs_for(inputs), interpreter.values


def check_outputs(name: str, effect: Effect, before: Sequence[Any],
                  after: Sequence[Any]) -> None:
    """Hold an exact or reassociating pass to its word; raises VerificationError.

    Outputs are tensors, or numbers such as sizes; these move only with the tensors that they
    were computed from.
    """
    for position, (a, b) in enumerate(zip(before, after, strict=True)):
        if not isinstance(a, Tensor):
            if effect is Effect.EXACT and not same_value(a, b):
                raise VerificationError(f"pass {name}: output {position} is {b!r}, was {a!r}",
                                        fix="this is a fault of the pass; please report it")
            continue
        if effect is Effect.EXACT and not equal(a, b):
            raise _wrong(name, position, "is not bit-equal", a, b)
        if effect is Effect.REASSOCIATING and not close(a, b):
            raise _wrong(name, position, "moved by more than float rounding", a, b)


def integers_of(module: fx.GraphModule, inputs: Sequence[Tensor]) -> Integers:
    """The integers of every quantized value of a graph, by node."""
    return run_with_integers(module, inputs)[1]


def step_differences(module: fx.GraphModule, inputs: Sequence[Tensor],
                     expected: Integers) -> list[tuple[int, Node]]:
    """For each operator, in order: how many steps its integers are off, given the reference's."""
    interpreter = _Stepwise(module, expected)
    interpreter.outputs_for(inputs)
    return interpreter.differences


def check_steps(name: str, module: fx.GraphModule, inputs: Sequence[Tensor],
                expected: Integers) -> tuple[tuple[Any, ...], Integers]:
    """Every operator, fed with the reference's integers, gives them within one step.

    Gives the graph's own outputs and integers; it is run once more where an operator is off.
    """
    interpreter = _Stepwise(module, expected)
    outputs = interpreter.outputs_for(inputs)
    steps, node = max(interpreter.differences, key=lambda pair: pair[0], default=(0, None))
    if steps > 1 and node is not None:
        raise VerificationError(f"pass {name} changed the integers of {info(node).path} by "
                                f"{steps} steps", where=info(node).source, why=format_node(node),
                                fix="this is a fault of fxq or of a kernel; please report it")
    return run_with_integers(module, inputs) if steps else (outputs, interpreter.values)


def same_value(a: Any, b: Any) -> bool:
    """Tensors with the same bits, or other values that are equal."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return equal(a, b)
    if a is b or type(a) is not type(b):
        return a is b
    try:
        return bool(a == b) or (a != a and b != b)
    except Exception:  # values of the user's own, which need not be comparable
        return False


def equal(a: Tensor, b: Tensor) -> bool:
    """The same type, shape and bits; NaN equals NaN."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(
        torch.equal(a, b) or torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)))


def close(a: Tensor, b: Tensor) -> bool:
    """As close as float rounding leaves two values (`REASSOCIATION`)."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point() or not a.numel():
        return True
    bound = max(REASSOCIATION, 8 * torch.finfo(a.dtype).eps)  # half precision rounds coarser
    a, b = torch.nan_to_num(a.double()), torch.nan_to_num(b.double())
    return bool((a - b).abs().max() <= bound * a.abs().max())


def _wrong(name: str, position: int, what: str, a: Tensor, b: Tensor) -> VerificationError:
    detail = f"shapes {tuple(a.shape)} and {tuple(b.shape)}" if a.shape != b.shape else (
        f"largest difference {(a.double() - b.double()).abs().max().item():.3g}")
    return VerificationError(f"pass {name}: output {position} {what}", why=detail,
                             fix="this is a fault of the pass; please report it")
