"""What passes may know besides the graph: target, scheme and statistics, all frozen."""

from __future__ import annotations

from dataclasses import dataclass, field

from fxq.scheme import SCHEMES, Scheme
from fxq.statistics import Statistics
from fxq.targets.base import Target


@dataclass(frozen=True)
class Context:
    """The frozen surroundings of one compilation."""

    target: Target
    scheme: Scheme = SCHEMES["int8_static"]
    statistics: Statistics = field(default_factory=Statistics)
