"""What a target is: one literal that says which integer kernels exist, and their limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch.fx import Node

from fxq.errors import ConfigError, TargetUnavailableError
from fxq.ir.ops import ABSORBED, OPS, Op, op_of
from fxq.kernels.calls import require_engine
from fxq.kernels.limits import (
    Limit,
    broadcast_channels,
    constant_weight,
    nonempty_channels,
    one_tensor,
    option,
    rank,
    tensors,
)
from fxq.kernels.lookup_tables import FunctionCosts
from fxq.kernels.region_costs import RegionCosts
from fxq.kernels.row_checks import problems_of, takes_dynamic
from fxq.kernels.rows import ELEMENTWISE_OPS, Kernel, Pairing
from fxq.quantization.formats import QSpec
from fxq.quantization.schemes import Mode, Scheme
from fxq.targets.costs import FUNCTIONS


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
    # It computes by `fxq.ir.arithmetic` on plain integer tensors: functions are tables of a file,
    # averages have formats of their own, and sums join convolutions without writing over anything.
    plain: bool = False
    costs: FunctionCosts = FUNCTIONS  # of functions without a kernel, on the machines it is for
    regions: RegionCosts | None = None  # by which regions that float computes faster stay in float

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(f"the table of target {self.name!r} is inconsistent",
                              why="; ".join(problems))

    def _problems(self) -> Iterator[str]:
        keys = [(k.op, k.absorbs, k.call, k.engine, k.expand_groups) for k in self.kernels]
        yield from (f"two rows for {key[0]}" for key in keys if keys.count(key) > 1)
        yield from (f"unknown operator {op!r}" for op in (
            *self.unsupported, *self.per_tensor_weights) if op not in OPS)
        yield from (f"{op} is both a kernel and unsupported" for op in self.unsupported
                    if op in {key[0] for key in keys})
        for row in self.kernels:
            yield from problems_of(row)
            if self.engine and Mode.DYNAMIC not in self.refused_modes and (
                    takes_dynamic(row) and not row.dynamic_call):
                yield f"row {row}: no dynamic_call, and the target does not refuse dynamic schemes"

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
        if self.engine == "native":
            return str(_native().why_not())
        if self.engine and self.engine not in torch.backends.quantized.supported_engines:
            return f"torch without {self.engine}"
        return ""

    @property
    def is_fast(self) -> bool:
        """It has kernels for the vector instructions of this processor, not plain C++ alone."""
        return self.engine != "native" or _native().isa() != "plain"

    def require(self) -> None:
        """Raise TargetUnavailableError unless this machine has the engine."""
        if self.engine == "native" and (reason := self.why_not_here()):
            raise TargetUnavailableError("the native engine is not available on this machine",
                                         why=reason, fix="choose another target, or 'auto'")
        if self.engine and self.engine != "native":
            require_engine(self.engine)

    def why_not_scheme(self, scheme: Scheme) -> str | None:
        """Why the target cannot run a scheme, or None. Overrides are schemes of their own."""
        if scheme.mode in self.refused_modes:
            return self.refused_modes[scheme.mode]
        if self.simulates or scheme.mode in (Mode.FLOAT, Mode.HALF):
            return None
        if not _holds(self.weight, scheme.weight):  # fewer bits are bytes to a kernel all the same
            return f"its kernels take {self.weight} weights, not {scheme.weight}"
        if scheme.mode is Mode.STATIC and not self._makes(scheme.activation):
            return f"its kernels take {self.activation} activations, not {scheme.activation}"
        return None

    def _makes(self, activation: QSpec) -> bool:
        """Kernels of torch round to all 256 steps; plain arithmetic clamps to any bounds."""
        whole = (activation.low, activation.high) == (self.activation.low, self.activation.high)
        return _holds(self.activation, activation) and (whole or self.plain)

    def rows(self, op: str, absorbs: str = "") -> tuple[Kernel, ...]:
        """The kernels for an operator and what it absorbs, in order of preference."""
        own = tuple(k for k in self.kernels if (k.op, k.absorbs) == (op, absorbs))
        if own or absorbs or op not in OPS or not OPS[op].elementwise:
            return own
        return tuple(k for k in self.kernels if k.op == ELEMENTWISE_OPS)

    def absorbs(self, op: str, activation: str) -> bool:
        """Some kernel computes the operator and the activation behind it at once."""
        return bool(self.rows(op, activation))

    def _rows_of(self, op: Op) -> tuple[Kernel, ...]:
        own = self.rows(op.base or op.name, op.activation)
        if own or op.activation not in ("", *ABSORBED):
            return own  # what it absorbed is no clamp, which the range of the output could do
        return self.rows(op.base or op.name)

    def engine_of(self, row: Kernel) -> str:
        """The engine that the weights of a row's layers are packed for."""
        return row.engine or self.engine or ""

    def choose(self, node: Node, op: Op | None = None) -> Kernel | tuple[str, str]:
        """The first row whose limits hold, else (code, sentence) why no kernel takes the node.

        `op` is what the node will become, where that is not what it is. With several rows the
        sentence is about the last. `fxq.analysis.kernel_rows` asks; all others read what it kept.
        """
        op = op or op_of(node)
        name = (op.base or op.name) if op else str(node.target)
        if name in self.unsupported:
            return "no-kernel", self.unsupported[name]
        reason = "no-kernel", f"{self.name} has no integer kernel for {name}"
        for row in self._rows_of(op) if op else ():
            broken = next((limit for limit in row.limits if not limit.holds(node)), None)
            if broken is None:
                return row
            reason = "limit", broken.reason
        return reason


def _native() -> Any:
    """The native engine; looked for when it is asked about, because it opens a library."""
    return import_module("fxq.kernels.native.library")


def _holds(wide: QSpec, narrow: QSpec) -> bool:
    return (wide.low <= narrow.low and narrow.high <= wide.high
            and wide.symmetric == narrow.symmetric)


__all__ = ["ELEMENTWISE_OPS", "Kernel", "Limit", "Pairing", "Target", "broadcast_channels",
           "constant_weight", "nonempty_channels", "one_tensor", "option", "rank", "tensors"]
