"""The recorded check: inputs that every machine can make again, and the digest of the outputs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fxq.errors import ArtifactError
from fxq.system.raw import value_bytes

Range = tuple[int, int]
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_WIDEST = 65535  # so that the recorded check's products stay far below 2^63


@dataclass(frozen=True)
class Input:
    """Shape and type of an input; for integers, the range that the model is known to take."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    range: Range | None = None


def read_ranges(check: Any, inputs: int) -> tuple[Range | None, ...]:
    """The ranges in a file's manifest; raises ArtifactError for anything else."""
    rows = check.get("ranges", []) if isinstance(check, dict) else None
    if not isinstance(rows, list) or len(rows) not in (0, inputs) or not all(
            row is None or _is_range(row) for row in rows):
        raise ArtifactError("the recorded check of this file is malformed")
    return tuple(row and (row[0], row[1]) for row in rows)


def _is_range(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(type(v) is int for v in row) and (
        -(2**63) <= row[0] <= row[1] <= min(row[0] + _WIDEST, 2**63 - 1))


def check_of(function: Any, inputs: Sequence[Input]) -> dict[str, Any]:
    """The digest of what a model gives for inputs that every machine can make again.

    Empty when the model refuses such inputs: then nothing is recorded.
    """
    for ranges in _attempts(inputs):
        try:
            outputs = run_check(function, [replace(x, range=r)
                                           for x, r in zip(inputs, ranges, strict=True)])
        except Exception:  # an index out of its table, offsets that fall: whatever it may raise
            continue
        known = {"ranges": [list(r) if r else None for r in ranges]} if any(ranges) else {}
        return known | {"outputs": _digest(outputs)}
    return {}


def _attempts(inputs: Sequence[Input]) -> Iterator[list[Range | None]]:
    """The integers that were seen in the examples, then only the least of them."""
    yield [x.range for x in inputs]
    if any(x.range for x in inputs):
        yield [x.range and (x.range[0], x.range[0]) for x in inputs]


def _digest(outputs: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for value in outputs:
        if isinstance(value, Tensor):
            digest.update(str((tuple(value.shape), value.dtype)).encode())
        digest.update(value_bytes(value))
    return digest.hexdigest()


def run_check(function: Any, inputs: Sequence[Input]) -> list[Any]:
    """Outputs for numbers that are scattered over their ranges, the same everywhere."""
    with torch.no_grad():
        return [v.cpu() if isinstance(v, Tensor) else v for v in function(*map(invented, inputs))]


def invented(about: Input) -> Tensor:
    """Integers 0, 1, 2, … scattered over [-1, 1), or over the input's own range of integers."""
    values: np.ndarray[Any, Any]
    steps = np.arange(math.prod(about.shape), dtype=np.uint32) * np.uint32(40503) & 65535
    if about.range is None:  # all by numpy: the first loop of torch's starts its threads
        values = steps.astype(np.float32) / 32768 - 1
    else:
        low, high = about.range
        values = steps.astype(np.int64) * (high - low + 1) // 65536 + low
    return torch.from_numpy(values).reshape(about.shape).to(about.dtype)


def range_of(example: Tensor) -> Range | None:
    """The least and the largest integer of an example input; None for other types."""
    if example.dtype not in _INTEGERS or not example.numel():
        return None
    low, high = int(example.min()), int(example.max())
    return (low, min(high, low + _WIDEST))
