"""The native library through ctypes: layers, and programs over them.

Memory is torch's: what a program reads and writes of the caller is passed as addresses.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fxq.errors import ConfigError, FxqError, TargetUnavailableError
from fxq.kernels.native.build import HERE, NAME, NOTE, interface
from fxq.kernels.native.structs import (
    EXTERNAL,
    FLOAT_OUT,
    INCLUDE_PAD,
    ISAS,
    LANE,
    OPS,
    RESIDUAL,
    SLACK,
    WIDE,
    WIDE_STEP,
    Instruction,
    LayerFields,
    View,
)

_ERROR_BYTES = 256
_REBUILD = "run `python -m fxq.kernels.native.build`"
_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fxq_abi": (_I, ()),
    "fxq_sizeof": (_I, (_I,)),
    "fxq_best_isa": (_I, ()),
    "fxq_has_isa": (_I, (_I,)),
    "fxq_peak": (_L, (_I, _L)),
    "fxq_layer_new": (_P, (_P, ctypes.c_char_p, _I)),
    "fxq_layer_free": (None, (_P,)),
    "fxq_program_new": (_P, (_P, _I, _P, _I, _P, _I, _P, _I, _L, _L, _I, _I, _I,
                             ctypes.c_char_p, _I)),
    "fxq_program_free": (None, (_P,)),
    "fxq_program_run": (_I, (_P, _P, _P, _I, _I)),
    "fxq_program_clocks": (_I, (_P, _P, _P, _I, _I, _P, _P)),
    "fxq_program_kernel": (ctypes.c_char_p, (_P, _I)),
}
_RUN_ERRORS = ("", "got another number of tensors than it was made for",
               "got a tensor that is smaller than it was made for", "got a tensor without memory",
               "got a float tensor whose address is no multiple of 4", "found too little memory")


@cache
def _opened() -> tuple[ctypes.CDLL | None, str]:
    """The library, or why there is none."""
    path, note = HERE / NAME, HERE / NOTE
    if not path.exists():
        why = note.read_text().strip() if note.exists() else "it was not built"
        return None, f"{why} when fxq was installed; {_REBUILD}"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f"{path.name} cannot be loaded ({error}); {_REBUILD}"
    sizes = [ctypes.sizeof(s) for s in (View, Instruction, LayerFields)]
    if library.fxq_abi() != interface() or [library.fxq_sizeof(i) for i in range(3)] != sizes:
        return None, f"{path.name} is of another version of fxq; {_REBUILD}"
    return library, ""


def why_not() -> str:
    """Why native programs cannot run here, as one sentence; empty where they can."""
    return _opened()[1]


def _native() -> ctypes.CDLL:
    library, why = _opened()
    if library is None:
        raise TargetUnavailableError("fxq's native library is missing", why=why)
    return library


def isa() -> str:
    """The instruction set that programs are made for: the best here, lowered by FXQ_NATIVE_ISA.

    Raises ConfigError where that variable names none.
    """
    best = _native().fxq_best_isa()
    if best < 0:
        raise ConfigError(f"FXQ_NATIVE_ISA={os.environ.get('FXQ_NATIVE_ISA', '')!r} is unknown",
                          fix=f"one of {', '.join(ISAS)}")
    return ISAS[best]


def isas() -> tuple[str, ...]:
    """The instruction sets of this processor, from "plain" to isa(), each a FXQ_NATIVE_ISA."""
    return tuple(name for number, name in enumerate(ISAS[:ISAS.index(isa()) + 1])
                 if _native().fxq_has_isa(number))


def peak(rounds: int, isa_name: str | None = None) -> int:
    """Multiply on registers alone; the multiply-accumulates that were done, for callers to time.

    0 where an instruction set (default: `isa()`) has no such loop.
    """
    return int(_native().fxq_peak(ISAS.index(isa_name or isa()), rounds))


def _made(what: str, make: Callable[..., int | None], *arguments: Any) -> int:
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    handle = make(*arguments, error, _ERROR_BYTES)
    if not handle:
        raise FxqError(f"the native engine refuses a {what}", why=error.value.decode())
    return handle


class Layer:
    """Weights that programs share. The tensors are copied; `borrow` keeps the weights instead,
    which then must not change.

    `weight` is int8 (outputs, inputs of a group, kh, kw), a transposed layer's (inputs, outputs of
    a group, kh, kw); `bias` int32 and `multiplier` float32, one for each output. Fewer dimensions
    than four are those of a linear or one-dimensional layer. `addend` are float32 biases of a layer
    that measures its input. Raises FxqError.
    """

    def __init__(self, weight: Tensor, bias: Tensor, multiplier: Tensor, *, groups: int = 1,
                 zero_in: int = 0, transposed: bool = False, addend: Tensor | None = None,
                 borrow: bool = False) -> None:
        library = _native()
        rows, columns, *kernel = weight.shape
        kh, kw = {0: (1, 1), 1: (1, *kernel)}.get(len(kernel), kernel)
        outputs, inputs = (columns * groups, rows // groups) if transposed else (rows, columns)
        self.outputs = outputs
        parts = [weight.detach().to("cpu", torch.int8).contiguous(),
                 bias.detach().to("cpu", torch.int32).contiguous(),
                 *(t.detach().to("cpu", torch.float32).contiguous()
                   for t in (multiplier, addend) if t is not None)]
        if any(part.numel() != outputs for part in parts[1:]) or rows % groups:
            raise FxqError("the native engine refuses a layer",
                           why="its weights, biases and multipliers are of different sizes")
        fields = LayerFields(outputs, inputs, groups, kh, kw, transposed, zero_in, borrow,
                             *(p.data_ptr() for p in parts))
        self._kept = parts[0] if borrow else None
        self._free = library.fxq_layer_free
        self._handle = _made("layer", library.fxq_layer_new, ctypes.byref(fields))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._free(self._handle)


class Program:
    """Steps that run in one call. `sizes` are the bytes of the caller's tensors, in their order.

    `tables` are uint8 tensors of 256; `lane` and `wide` the bytes of one image's memory; `isa` one
    of ISAS. Everything is checked: raises FxqError with the step that is wrong.
    """

    def __init__(self, code: Sequence[Instruction], views: Sequence[View], layers: Sequence[Layer],
                 tables: Sequence[Tensor], lane: int, wide: int, images: int,
                 sizes: Sequence[int], isa_name: str | None = None) -> None:
        library = _native()
        self.layers = tuple(layers)  # they outlive the program
        rows = b"".join(bytes(t.tolist()) for t in tables)
        if len(rows) != 256 * len(tables):
            raise FxqError("the native engine refuses a program", why="a table has not 256 results")
        self._free, self._handle = library.fxq_program_free, _made(
            "program", library.fxq_program_new,
            (Instruction * len(code))(*code), len(code), (View * len(views))(*views), len(views),
            (_P * len(layers))(*(p._handle for p in layers)), len(layers), rows, len(tables),
            lane, wide, images, ISAS.index(isa_name or isa()), torch.get_num_threads())
        self._steps, self._count = len(code), len(sizes)
        self._sizes = (_L * len(sizes))(*sizes)
        self._addresses = _P * len(sizes)
        self._run = library.fxq_program_run

    def run(self, pointers: Sequence[int], threads: int) -> None:
        """Compute, with up to `threads` threads. `pointers` are the addresses of the tensors.

        The memory behind each must have the bytes that `sizes` said. Safe in many threads at once.
        """
        error = self._run(self._handle, self._addresses(*pointers), self._sizes, self._count,
                          threads)
        if error:
            raise FxqError(f"the native program {_RUN_ERRORS[error]}")

    def profile(self, pointers: Sequence[int], threads: int) -> list[tuple[int, int]]:
        """Run with a clock: nanoseconds of each step, (over all threads, as the wall clock ran)."""
        busy, wall = (_L * self._steps)(), (_L * self._steps)()
        error = _native().fxq_program_clocks(self._handle, self._addresses(*pointers), self._sizes,
                                             self._count, threads, busy, wall)
        if error:
            raise FxqError(f"the native program {_RUN_ERRORS[error]}")
        return list(zip(busy, wall, strict=True))

    @property
    def kernels(self) -> tuple[str, ...]:
        """The name of each step's kernel: its operator and instruction set."""
        name = _native().fxq_program_kernel
        return tuple(name(self._handle, i).decode() for i in range(self._steps))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._free(self._handle)


__all__ = ["EXTERNAL", "FLOAT_OUT", "INCLUDE_PAD", "ISAS", "LANE", "OPS", "RESIDUAL", "SLACK",
           "WIDE", "WIDE_STEP", "Instruction", "Layer", "Program", "View", "isa", "isas", "peak",
           "why_not"]
