"""Tensors of a safetensors member, where they lie: nothing is copied.

The format: 8 bytes with the length of a JSON header, which names each tensor's type, shape and
place behind it (https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fxq.artifact.container import LARGEST_JSON
from fxq.artifact.members import json_object
from fxq.errors import ArtifactError

_TYPES = {"I8": torch.int8, "U8": torch.uint8, "I32": torch.int32, "F32": torch.float32}
_MOST = 2**48  # bytes
_DIMENSIONS = 8


class Tensors:
    """The tensors by name; each is checked when it is asked for. Raises ArtifactError."""

    def __init__(self, content: memoryview, name: str) -> None:
        size = int.from_bytes(content[:8], "little")
        if len(content) < 8 or size > min(LARGEST_JSON, len(content) - 8) or size % 8:
            raise ArtifactError(f"{name} has no header")
        self._name, self._data = name, content[8 + size:]
        self._rows = json_object(content[8:8 + size], name)

    def __call__(self, name: Any, dtype: torch.dtype) -> Tensor:
        """The tensor of this name, if it is of this type."""
        row = self._rows.get(name) if isinstance(name, str) else None
        if not isinstance(row, dict) or _TYPES.get(str(row.get("dtype"))) is not dtype:
            raise ArtifactError(f"{self._name} has no {dtype} called {str(name)[:40]!r}")
        shape: Any = row.get("shape")
        place: Any = row.get("data_offsets")
        if not _is_sizes(shape, _DIMENSIONS) or not _is_sizes(place, 2) or (
                len(place) != 2):
            raise ArtifactError(f"{self._name}: {name[:40]!r} is malformed")
        (start, end), count = place, math.prod(shape)
        if not start + count * dtype.itemsize == end <= len(self._data) or start % dtype.itemsize:
            raise ArtifactError(f"{self._name}: {name[:40]!r} lies outside of it")
        if not count:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._data, dtype=dtype, count=count, offset=start).view(shape)


def _is_sizes(values: Any, most: int) -> bool:
    return isinstance(values, list) and len(values) <= most and all(
        type(v) is int and 0 <= v < _MOST for v in values)
