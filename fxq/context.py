"""What passes may know besides the graph: target, scheme and statistics, all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fxq.qspec import QParams
from fxq.scheme import SCHEMES, Scheme
from fxq.statistics import Statistics
from fxq.targets.base import Target


@dataclass(frozen=True)
class Given:
    """Formats that were decided before, by training or by another tool.

    `formats` by the canonical key of each value, `weight_scales` (float32, one entry or one an
    output channel) by the key of the value that the layer makes.
    """

    formats: Mapping[str, QParams] = field(default_factory=dict)
    weight_scales: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """The frozen surroundings of one compilation."""

    target: Target
    scheme: Scheme = SCHEMES["int8_static"]
    statistics: Statistics = field(default_factory=Statistics)
    given: Given = field(default_factory=Given)
    native_half: bool = False  # the machine multiplies in the scheme's half precision itself
