"""What calibration remembers of each value: exact extremes and counts on one fixed grid.

Everything is exact and mergeable: minimum and maximum, and integer counts of a strided sample
on a grid that is the same for all tensors (the top bits of the float32: sign, exponent and
five bits of mantissa, so a bin is about 3 % wide). Merging is commutative and associative,
so any split of the data over any number of workers gives the same result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fxq.quantization import statistics_file
from fxq.quantization.tensor_statistics import TensorStatistics


@dataclass(frozen=True)
class Statistics(Mapping[str, TensorStatistics]):
    """Statistics by the canonical key of each value in the NORMAL graph."""

    values: Mapping[str, TensorStatistics] = field(default_factory=dict)  # type: ignore[assignment]
    repairs: tuple[str, ...] = ()  # what had been done to the graph that made these values

    def __getitem__(self, key: str) -> TensorStatistics:
        return self.values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def merge(self, other: Statistics) -> Statistics:
        """Both data sets together; the order does not matter."""
        empty = TensorStatistics()
        keys = dict.fromkeys((*self.values, *other.values))
        return Statistics({k: self.values.get(k, empty).merge(other.values.get(k, empty))
                           for k in keys}, self.repairs or other.repairs)

    @classmethod
    def from_ranges(cls, ranges: Mapping[str, tuple[float, float]]) -> Statistics:
        """Statistics that were fixed by hand: only the extremes of each value."""
        return cls({k: TensorStatistics(float(lo), float(hi)) for k, (lo, hi) in ranges.items()})

    def ranges(self) -> dict[str, tuple[float, float]]:
        return {k: (v.minimum, v.maximum) for k, v in self.values.items()}

    def save(self, path: str | Path) -> None:
        """Write everything to one file (safetensors); an old file stays whole until then."""
        statistics_file.write(self.values, Path(path), self.repairs)

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read what `save` wrote; raises ArtifactError for anything else."""
        return cls(*statistics_file.read(Path(path)))

    @classmethod
    def read_ranges(cls, path: Path) -> Statistics:
        """Ranges from a JSON file of {value: [minimum, maximum]}."""
        return cls.from_ranges(json.loads(path.read_text()))
