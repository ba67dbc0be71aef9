"""What a target is: one literal that says which integer kernels exist, and their limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node

from fxq.errors import ConfigError
from fxq.info import info
from fxq.ops import ACTIVATIONS, OPS, attribute, op_of
from fxq.qspec import QSpec
from fxq.rewrite import constant_of, is_constant
from fxq.scheme import Mode, Scheme


@dataclass(frozen=True)
class Limit:
    """One condition that a kernel puts on a node; `source` says where it is known from."""

    reason: str
    holds: Callable[[Node], bool]
    source: str = ""


@dataclass(frozen=True)
class Pairing:
    """Which weights a kernel multiplies and adds in 16 bits, where 255·|w0+w1| may saturate.

    `when` selects the nodes that take this kernel path; `taps` gives index pairs into the
    kernel's taps in row-major order, or None where the pairing is not known (any two may meet).
    """

    when: Callable[[Node], bool]
    taps: Callable[[int], tuple[tuple[int, int], ...] | None]
    limit: int = 128
    source: str = ""


@dataclass(frozen=True)
class Kernel:
    """One row: an operator, what it absorbs, the call in `fxq.kernels`, and its limits.

    `engine_sensitive`: the result (or its speed) depends on torch's process-wide quantized
    engine at the time of the call.
    """

    op: str
    call: str
    absorbs: str = ""
    limits: tuple[Limit, ...] = ()
    pairing: Pairing | None = None
    engine_sensitive: bool = False
    float_call: str = ""  # the same operator with float output, for values read in float only
    dynamic_call: str = ""  # float in, float out; the input's range is measured at each call


@dataclass(frozen=True)
class Target:
    """A backend as data. An inconsistent table cannot be built (ConfigError)."""

    name: str
    summary: str
    engine: str | None  # of torch.backends.quantized; None: plain integer tensors
    activation: QSpec
    weight: QSpec
    kernels: tuple[Kernel, ...]
    refused_modes: Mapping[Mode, str] = field(default_factory=dict)  # mode -> reason
    unsupported: Mapping[str, str] = field(default_factory=dict)
    per_tensor_weights: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        rows = [(k.op, k.absorbs) for k in self.kernels]
        problems = [f"two rows for {r}" for r in rows if rows.count(r) > 1]
        problems += [f"unknown operator {op!r}" for op in (*(r[0] for r in rows), *self.unsupported)
                     if op not in OPS]
        problems += [f"{op} is both a kernel and unsupported" for op in self.unsupported
                     if op in {r[0] for r in rows}]
        problems += [f"nothing absorbs {r[1]!r}" for r in rows if r[1] not in ("", *ACTIVATIONS)]
        if problems:
            raise ConfigError(f"the table of target {self.name!r} is inconsistent",
                              why="; ".join(problems))

    @property
    def simulates(self) -> bool:
        """No kernels: integers of any width are computed in plain tensors, and slowly."""
        return self.engine is None

    def why_not_scheme(self, scheme: Scheme) -> str | None:
        """Why the target cannot run a scheme, or None. Overrides are schemes of their own."""
        if scheme.mode in self.refused_modes:
            return self.refused_modes[scheme.mode]
        if self.simulates or scheme.mode in (Mode.FLOAT, Mode.HALF):
            return None
        if not _same_integers(scheme.weight, self.weight):
            return f"its kernels take {self.weight} weights, not {scheme.weight}"
        if scheme.mode is Mode.STATIC and not _same_integers(scheme.activation, self.activation):
            return f"its kernels take {self.activation} activations, not {scheme.activation}"
        return None

    def row(self, op: str, absorbs: str = "") -> Kernel | None:
        """The kernel for an operator and the activation that it absorbs."""
        return next((k for k in self.kernels if (k.op, k.absorbs) == (op, absorbs)), None)

    def kernel_for(self, node: Node) -> Kernel | None:
        """The row that runs this node, limits aside: with its activation, else without."""
        op = op_of(node)
        if op is None:
            return None
        return self.row(op.base or op.name, op.activation) or self.row(op.base or op.name)

    def why_not(self, node: Node) -> tuple[str, str] | None:
        """(code, sentence) why the target cannot run the node on integers, or None."""
        op = op_of(node)
        name = (op.base or op.name) if op else str(node.target)
        if name in self.unsupported:
            return "no-kernel", self.unsupported[name]
        kernel = self.kernel_for(node)
        if kernel is None:
            return "no-kernel", f"{self.name} has no integer kernel for {name}"
        broken = next((limit for limit in kernel.limits if not limit.holds(node)), None)
        return ("limit", broken.reason) if broken else None


def rank(*allowed: int) -> Limit:
    """The input has one of these numbers of dimensions."""
    text = " or ".join(map(str, allowed))
    return Limit(f"the kernel takes {text}-dimensional input",
                 lambda node: len(info(node.args[0]).shape or ()) in allowed)  # type: ignore[arg-type]


def tensors() -> Limit:
    """All operands are tensors that are computed at run time: no numbers, no constants."""
    return Limit("one operand is a number or a constant",
                 lambda node: all(isinstance(a, Node) and info(a).shape is not None
                                  and not is_constant(a) for a in node.args))


def broadcast_channels() -> Limit:
    """Both operands have one shape, or the second is N×C×1×1."""

    def holds(node: Node) -> bool:
        a, b = (info(n).shape or () for n in node.args[:2])  # type: ignore[arg-type]
        return a == b or (len(a) == len(b) == 4 and (
            _per_channel(a, b) or _per_channel(b, a)))

    return Limit("the kernel takes operands of one shape, or one of N×C×1×1", holds)


def _same_integers(a: QSpec, b: QSpec) -> bool:
    return (a.low, a.high, a.symmetric) == (b.low, b.high, b.symmetric)


def _per_channel(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[:2] == b[:2] and b[2:] == (1, 1)


def option(name: str, *allowed: Any, reason: str = "") -> Limit:
    """An attribute has one of these values."""
    text = " or ".join(map(repr, allowed))
    return Limit(reason or f"the kernel needs {name}={text}",
                 lambda node: attribute(node, name) in allowed)


def constant_weight() -> Limit:
    """The weight is known when compiling, so that it can be packed."""
    return Limit("its weight is computed at run time",
                 lambda node: constant_of(node.args[1]) is not None)


def nonempty_channels() -> Limit:
    """Zero channels: nothing to compute, and engines disagree about it."""
    return Limit("it has zero channels", lambda node: 0 not in (info(node).shape or (0,))[1:])
