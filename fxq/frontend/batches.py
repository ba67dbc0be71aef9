"""Turn whatever a user calls calibration data into calls of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fxq.errors import CalibrationError
from fxq.frontend.signature import Signature

Transform = Callable[[Any], Any]


def batches(data: Iterable[Any], signature: Signature,
            transform: Transform | None = None) -> Iterator[list[Tensor]]:
    """The model's flat inputs for each batch.

    A tensor is the input. A tuple or list is (input, label) when the model takes one input,
    else its inputs in order. A dict holds keyword arguments. `transform` sees the raw batch.
    Raises CalibrationError for data that cannot be iterated or does not fit.
    """
    if isinstance(data, Tensor):
        data = [data]
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | Mapping):
        raise CalibrationError(f"calibration data is {type(data).__name__}, not an iterable of "
                               "batches", fix="pass a DataLoader or a list of tensors")
    for index, batch in enumerate(data):
        raw = transform(batch) if transform else batch
        args, kwargs = _as_call(raw, signature, index)
        yield _checked(signature.tensors(args, kwargs), signature, index)


def _as_call(raw: Any, signature: Signature, index: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(raw, Tensor):
        return (raw,), {}
    if isinstance(raw, Mapping):
        return (), dict(raw)
    if isinstance(raw, list | tuple) and raw:
        return (tuple(raw[:1]) if len(signature.names) == 1 else tuple(raw)), {}
    raise CalibrationError(f"batch {index} is {type(raw).__name__}",
                           why="a batch is a tensor, a tuple (input, label) or (input, input, "
                               "...), or a dict of keyword arguments",
                           fix="pass transform=lambda batch: ... that gives one of these")


def _checked(tensors: list[Tensor], signature: Signature, index: int) -> list[Tensor]:
    for name, tensor in zip(signature.names, tensors, strict=True):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CalibrationError(f"batch {index}: input {name!r} holds NaN or infinity",
                                   fix="check the data and its normalization")
    return [t.detach() for t in tensors]
