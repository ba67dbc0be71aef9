"""What passes may know besides the graph: target, scheme and statistics, all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fxq.quantization.formats import QParams
from fxq.quantization.schemes import SCHEMES, Scheme
from fxq.quantization.statistics import Statistics
from fxq.quantization.weights import IntegerWeight
from fxq.targets.base import Target


@dataclass(frozen=True)
class Given:
    """Formats that were decided before, by training or by another tool.

    `formats` by the canonical key of each value, `weights` by the key of the value that their
    layer makes. Weights are given as integers, because one that lies on a tie may round either
    way, and one integer may move an output by several steps. `biases`, by the same keys, are
    final: `correct-bias` leaves them alone.
    """

    formats: Mapping[str, QParams] = field(default_factory=dict)
    weights: Mapping[str, IntegerWeight] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)
    complete: bool = False  # what is not listed here stays in float


@dataclass(frozen=True)
class Context:
    """The frozen surroundings of one compilation."""

    target: Target
    scheme: Scheme = SCHEMES["int8_static"]
    statistics: Statistics = field(default_factory=Statistics)
    given: Given = field(default_factory=Given)
    native_half: bool = False  # the machine multiplies in the scheme's half precision itself
    slower: frozenset[str] = frozenset()  # values that float makes faster here, as was measured
    vnni: bool = True  # the machines that it is for add products of 8 bits in 32 bits
