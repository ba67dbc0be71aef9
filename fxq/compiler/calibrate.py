"""Data through the observers: what calibration saw, of one worker or of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from fxq.compiler.prepare import Prepared
from fxq.errors import CalibrationError
from fxq.frontend.batches import Transform, batches
from fxq.ir.digests import digest_tensors
from fxq.quantization.distributed import merge_across_workers
from fxq.quantization.statistics import Statistics
from fxq.system.logs import logger
from fxq.system.torch_state import isolated

Progress = Callable[[int], None]
_LOG = logger("calibrate")


def calibrate(prepared: Prepared, data: Iterable[Any], *, transform: Transform | None = None,
              progress: Progress | None = None, distributed: bool = False) -> Statistics:
    """Run batches through the OBSERVED graph and return what was seen.

    `data` is any iterable of tensors, (input, label) pairs, tuples of inputs, or dicts of
    keyword arguments; `transform` turns its items into one of these. With `distributed`, every
    worker of torch.distributed calls this with its own part of the data, and all get the same
    merged statistics. Raises CalibrationError for no batches, or for values that are not finite
    (naming the batch and the node).
    """
    flat = batches(data, prepared.convention.signature, transform)
    count = run_batches(prepared, flat, progress)
    if count == 0:
        raise CalibrationError("the calibration data has no batches",
                               why="an iterator may be used up already",
                               fix="pass a list or a DataLoader that can be read again")
    prepared.calibration = f"{count} batches of {prepared.seen_shapes()}"
    if distributed:
        prepared.merged = merge_across_workers(prepared.statistics())
        for observer in prepared.observers().values():
            observer.reset()
    return prepared.statistics()


def _shapes_of(batch: list[Tensor]) -> str:
    """The shapes of a batch's inputs, its size left open: [*,3,224,224]."""
    return " ".join("[" + ",".join(("*", *map(str, x.shape[1:]))) + "]" for x in batch)


def run_batches(prepared: Prepared, flat: Iterable[list[Tensor]],
                progress: Progress | None = None) -> int:
    """Run flat inputs through the observers; gives the number of batches."""
    count = 0
    with isolated():
        for batch in flat:
            if prepared.manager.locking:
                prepared.batch_digests.append(digest_tensors(batch))
            try:
                prepared.function(*batch)
            except CalibrationError as error:
                raise CalibrationError(f"batch {count}: {error.what}", where=error.where,
                                       why=error.why, fix=error.fix) from error
            except RuntimeError as error:
                raise CalibrationError(
                    f"the model fails on batch {count}", why=str(error).strip().split("\n")[0],
                    fix="give batches with the shapes and values that the model takes") from error
            if prepared.context.scheme.reconstruction:
                prepared.batches.append(batch)
            count += 1
            prepared.shapes[_shapes_of(batch)] = None
            _LOG.debug("batch %d", count)
            if progress:
                progress(count)
    return count
