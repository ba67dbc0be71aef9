"""What a target is: one literal that says which integer kernels exist, and their limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Node

from fxq.errors import ConfigError
from fxq.ir.facts import info
from fxq.ir.integers import dequantize_weight
from fxq.ir.ops import ABSORBED, OPS, Op, attribute, op_of
from fxq.ir.rewriter import constant_of, is_constant
from fxq.kernels.lookup_tables import FunctionCosts
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode, Scheme
from fxq.quantization.weights import Arrange
from fxq.targets.costs import FUNCTIONS

ELEMENTWISE_OPS = "elementwise"  # of a row: every operator of that kind without a row of its own


@dataclass(frozen=True)
class Limit:
    """One condition that a kernel puts on a node; `source` says where it is known from."""

    reason: str
    holds: Callable[[Node], bool]
    source: str = ""


@dataclass(frozen=True)
class Pairing:
    """Which weights a kernel multiplies and adds in 16 bits, where 255·|w0+w1| may saturate.

    `when` selects the nodes that take this kernel path; `arrange` lays a weight out as (output
    channels, n) so that neighbours (2i, 2i+1) meet, and is None where the pairing is not known
    (any two may meet). Most kernels add in 32 bits on CPUs with VNNI, a few in 16 even there.
    """

    when: Callable[[Node], bool]
    arrange: Arrange
    limit: int = 128
    even_with_vnni: bool = False
    source: str = ""


@dataclass(frozen=True)
class Kernel:
    """One row: an operator, what it absorbs, the call in `fxq.kernels.calls`, and its limits.

    Of several rows for one operator the first whose limits hold is taken. `engine_sensitive`: the
    result (or its speed) depends on torch's process-wide quantized engine at the time of the
    call. `engine` is the one that weights are packed for, where it is not the target's.
    """

    op: str
    call: str
    absorbs: str = ""
    limits: tuple[Limit, ...] = ()
    pairings: tuple[Pairing, ...] = ()
    engine_sensitive: bool = False
    float_call: str = ""  # the same operator with float output, for values read in float only
    dynamic_call: str = ""  # float in, float out; the input's range is measured at each call
    engine: str = ""
    engine_required: bool = False  # it fails under any other engine of the process
    expand_groups: bool = False  # pack as one group, zeros between: where groups are slow


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
    bias: str = "float"  # or "int32", at the scale of the sums
    # SMALL_SCALE_THRESHOLD in torch's quant_utils.h: the dynamic kernels take no smaller scale
    smallest_dynamic_scale: float = 6.1e-5
    device: str = "cpu"
    costs: FunctionCosts = FUNCTIONS  # of functions without a kernel, on the machines it is for

    def __post_init__(self) -> None:
        rows = [(k.op, k.absorbs, k.call, k.engine, k.expand_groups) for k in self.kernels]
        problems = [f"two rows for {r[0]}" for r in rows if rows.count(r) > 1]
        problems += [f"unknown operator {op!r}" for op in (*(r[0] for r in rows), *self.unsupported)
                     if op not in OPS and op != ELEMENTWISE_OPS]
        problems += [f"{op} is both a kernel and unsupported" for op in self.unsupported
                     if op in {r[0] for r in rows}]
        problems += [f"nothing absorbs {r[1]!r}" for r in rows
                     if r[1] not in ("", *ABSORBED) and f"{r[0]}_{r[1]}" not in OPS]
        if problems:
            raise ConfigError(f"the table of target {self.name!r} is inconsistent",
                              why="; ".join(problems))

    @property
    def simulates(self) -> bool:
        """No kernels: integers of any width are computed in plain tensors, and slowly."""
        return self.engine is None and self.device == "cpu"

    def is_available(self) -> bool:
        """This machine can run what is compiled for it."""
        return not self.why_not_here()

    def why_not_here(self) -> str:
        """What this machine lacks to run what is compiled for it; empty when it lacks nothing."""
        if self.device == "cuda" and not torch.cuda.is_available():
            return "no GPU" if torch.version.cuda else "torch without CUDA"
        if self.engine and self.engine not in torch.backends.quantized.supported_engines:
            return f"torch without {self.engine}"
        return ""

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

    def rows(self, op: str, absorbs: str = "") -> tuple[Kernel, ...]:
        """The kernels for an operator and what it absorbs, in order of preference."""
        own = tuple(k for k in self.kernels if (k.op, k.absorbs) == (op, absorbs))
        if own or absorbs or op not in OPS or not OPS[op].elementwise:
            return own
        return tuple(k for k in self.kernels if k.op == ELEMENTWISE_OPS)

    def row(self, op: str, absorbs: str = "") -> Kernel | None:
        """The first kernel for an operator and what it absorbs."""
        return next(iter(self.rows(op, absorbs)), None)

    def kernel_for(self, node: Node) -> Kernel | None:
        """The first row whose limits hold, else the last; with what it absorbs, or without."""
        op = op_of(node)
        if op is None:
            return None
        return self.fitting(node) or next(reversed(self._rows_of(op)), None)

    def fitting(self, node: Node) -> Kernel | None:
        """The first row whose limits hold: what the target can run the node with."""
        op = op_of(node)
        if op is None or (op.base or op.name) in self.unsupported:
            return None
        return next((k for k in self._rows_of(op) if all(
            limit.holds(node) for limit in k.limits)), None)

    def _rows_of(self, op: Op) -> tuple[Kernel, ...]:
        own = self.rows(op.base or op.name, op.activation)
        if own or op.activation not in ("", *ABSORBED):
            return own  # what it absorbed is no clamp, which the range of the output could do
        return self.rows(op.base or op.name)

    def engine_of(self, node: Node) -> str:
        """The engine that the weights of a layer are packed for."""
        kernel = self.kernel_for(node)
        return (kernel.engine if kernel else "") or self.engine or ""

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


def one_tensor() -> Limit:
    """One operand is computed at run time, and the others are numbers."""

    def holds(node: Node) -> bool:
        computed = [a for a in node.args if isinstance(a, Node) and not is_constant(a)]
        constants = (constant_of(a) for a in node.args if isinstance(a, Node) and is_constant(a))
        return len(computed) == 1 and info(computed[0]).shape == info(node).shape and all(
            c is not None and c.numel() == 1 for c in constants)

    return Limit("both operands are tensors of several shapes, or not known when compiling", holds)


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
    return Limit("its weight is computed at run time", lambda node: _is_stored(node.args[1]))


def _is_stored(weight: object) -> bool:
    integer = getattr(weight, "target", None) is dequantize_weight
    return integer or constant_of(weight) is not None


def nonempty_channels() -> Limit:
    """Zero channels: nothing to compute, and engines disagree about it."""
    return Limit("it has zero channels", lambda node: 0 not in (info(node).shape or (0,))[1:])
