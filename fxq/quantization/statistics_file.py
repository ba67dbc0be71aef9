"""Statistics as a file: safetensors for the counts, JSON in its metadata for the numbers.

Nothing in it is code, and the same statistics always give the same bytes. Counts are stored
sparsely; sums of extremes as text, because they are integers of any length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fxq.errors import ArtifactError
from fxq.quantization.tensor_statistics import BINS, TensorStatistics
from fxq.system.files import write_file

FORMAT = "fxq-statistics-1"


Content = tuple[dict[str, TensorStatistics], tuple[str, ...]]  # values by key, and repairs
_REPAIRS = ""  # no value has this key


def write(values: Mapping[str, TensorStatistics], path: Path,
          repairs: Sequence[str] = ()) -> None:
    """Write the file in one step; raises ConfigError for a place that cannot be written."""
    write_file(path, to_bytes(values, repairs))


def to_bytes(values: Mapping[str, TensorStatistics], repairs: Sequence[str] = ()) -> bytes:
    """The whole file, byte for byte the same for the same statistics."""
    tensors: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for index, key in enumerate(sorted(values)):
        known = values[key]
        filled = np.flatnonzero(known.counts)
        tensors[f"{index}.bins"] = filled.astype(np.int32)
        tensors[f"{index}.counts"] = known.counts[filled]
        tensors[f"{index}.channel_sums"] = known.channel_sums
        rows[key] = {"minimum": _text(known.minimum), "maximum": _text(known.maximum),
                     "batches": known.batches, "measured": bool(known.counts.size),
                     "minimum_sum": str(known.minimum_sum), "maximum_sum": str(known.maximum_sum)}
        if math.isfinite(known.finest):
            rows[key]["finest"] = _text(known.finest)
    if repairs:
        rows[_REPAIRS] = {"repairs": list(repairs)}
    # one entry only: safetensors writes several in an order that changes from run to run
    return save(tensors, {FORMAT: json.dumps(rows, sort_keys=True)})


def _text(value: float) -> str:
    return value.hex()


def read(path: Path) -> Content:
    """Read and check a file; raises ArtifactError that names what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    try:
        return from_bytes(content)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError,
            OverflowError) as error:
        raise ArtifactError(f"{path} is damaged, or no statistics of fxq",
                            why=str(error).split("\n")[0],
                            fix="calibrate again and save") from error


def from_bytes(content: bytes) -> Content:
    """The statistics behind `to_bytes`; raises ValueError, KeyError or TypeError for damage."""
    tensors, metadata = load(content), metadata_of(content)
    if set(metadata) != {FORMAT}:
        raise ValueError(f"its format is {sorted(metadata)}, not {FORMAT!r}")
    rows = json.loads(metadata[FORMAT])
    repairs = rows.pop(_REPAIRS, {"repairs": []})["repairs"]
    if not all(isinstance(name, str) for name in repairs):
        raise ValueError("repairs are no names")
    values = {key: _one(tensors, index, rows[key]) for index, key in enumerate(sorted(rows))}
    return values, tuple(repairs)


def metadata_of(content: bytes) -> dict[str, str]:
    """The text part of a safetensors file, which `load` has checked."""
    size = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8: 8 + size]).get("__metadata__", {}))


def _one(tensors: Mapping[str, Any], index: int, row: dict[str, Any]) -> TensorStatistics:
    bins, filled, sums = (tensors[f"{index}.{name}"]
                          for name in ("bins", "counts", "channel_sums"))
    counts = np.zeros(BINS if row["measured"] else 0, np.int64)
    counts[bins] = filled
    if (filled < 0).any() or filled.dtype != np.int64 or sums.dtype != np.int64:
        raise ValueError("counts are not natural numbers")
    low, high = float.fromhex(row["minimum"]), float.fromhex(row["maximum"])
    if math.isnan(low) or math.isnan(high) or (low <= high and math.isinf(high - low)):
        raise ValueError(f"the range [{low}, {high}] is not finite")
    return TensorStatistics(low, high, counts, int(row["batches"]), sums,
                            int(row["minimum_sum"]), int(row["maximum_sum"]),
                            float.fromhex(row.get("finest", "inf")))
