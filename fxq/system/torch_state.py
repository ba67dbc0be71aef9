"""Keep the user's process as it was: torch's global state and every flag that changes results."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def isolated() -> Iterator[None]:
    """No gradients, no autocast, float32 by default, and the random state put back afterwards."""
    dtype, rng = torch.get_default_dtype(), torch.get_rng_state()
    engine = torch.backends.quantized.engine
    torch.set_default_dtype(torch.float32)
    torch.backends.quantized.engine = runtime_engine(engine)
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_rng_state(rng)
        torch.backends.quantized.engine = engine


@contextmanager
def alone_in_child_of(process: int) -> Iterator[None]:
    """One thread for torch where this is a fork of that process.

    torch's pool of threads does not outlive a fork: an operator that wants it would wait for ever.
    """
    threads = torch.get_num_threads()
    if os.getpid() != process:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if os.getpid() != process:
            torch.set_num_threads(threads)


class EngineGuard:
    """Runs calls under an engine whose kernels give the right bits, from any thread.

    Some operators read torch's process-wide engine at call time; under `qnnpack` they give other
    bits or wrong data, and a few (`strict`) run under one engine only. The first caller that
    finds another current switches; the last one to leave switches back.
    """

    _lock = threading.Lock()
    _inside = 0
    _before = ""

    def __init__(self, engine: str, strict: bool = False) -> None:
        self.engine, self.strict = engine, strict

    def __enter__(self) -> None:
        with EngineGuard._lock:
            if EngineGuard._inside == 0:
                EngineGuard._before = torch.backends.quantized.engine
                torch.backends.quantized.engine = self.engine
            EngineGuard._inside += 1

    def __exit__(self, *_: object) -> None:
        with EngineGuard._lock:
            EngineGuard._inside -= 1
            if EngineGuard._inside == 0:
                torch.backends.quantized.engine = EngineGuard._before

    def is_needed(self) -> bool:
        """The current engine would change bits, or another thread has switched already."""
        current = torch.backends.quantized.engine
        return EngineGuard._inside > 0 or current == "qnnpack" != self.engine or (
            self.strict and current != self.engine)
# torch's own deprecations that the kernels cannot avoid; see pytorch/pytorch#184982.
DEPRECATIONS = (
    r"torch\.quantize_per_tensor, torch\.quantize_per_channel and other quantized tensor",
    r"`torch\.jit\.\w+` is deprecated",
    r"TypedStorage is deprecated",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's own deprecations of what the kernels stand on, and nothing else."""
    with warnings.catch_warnings():
        for message in DEPRECATIONS:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def using_engine(engine: str) -> Iterator[None]:
    """Make an engine current for a block, and restore the user's."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def runtime_engine(engine: str) -> str:
    """The engine that is current while a target's models run: one for all where there is oneDNN.

    QNNPACK's kernels for what is not packed give other bits, and some wrong data; convolutions
    that add run under oneDNN's only. All other kernels give the same bits under both (measured).
    """
    return "onednn" if "onednn" in torch.backends.quantized.supported_engines else engine
