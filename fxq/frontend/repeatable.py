"""Why a model gives other outputs for the same input: random numbers, state, contexts.

A compiled model computes the same from the same input. What cannot be compiled for that reason
is the model's own doing, so the error names its line.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fxq.errors import TraceError
from fxq.frontend.source_lines import line_of_code, user_line

Call = Callable[[], Any]


@dataclass(frozen=True)
class _Kind:
    """One cause: what the error says of it, and what to do."""

    what: str
    fix: str


_RANDOM = _Kind("the model draws random numbers",
                "switch it off in eval mode: F.dropout(x, p, training=self.training), "
                "nn.Dropout, or no noise")
_STATE = _Kind("the model changes its own state in every call",
               "pass the state as an input and return the new value; a compiled model keeps none")
_AUTOCAST = _Kind("the model switches autocast on in its forward",
                  "remove torch.autocast from the forward; scheme=\"fp16\" or \"bf16\" chooses "
                  "half precision")
_UNKNOWN = _Kind("the model gives other outputs for the same input",
                 "remove what differs between calls: clocks, counters, files, global variables")


@dataclass
class Watch(TorchDispatchMode):
    """Notes the user's line of whatever makes a forward differ from call to call."""

    tensors: dict[int, str]
    found: list[tuple[_Kind, str, str]] = field(default_factory=list)  # cause, detail, line

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").split(".")[0]
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.note(_RANDOM, f"{name} gives other values in every call")
        written = self._written(func, args)
        if written:
            self.note(_STATE, f"{name} writes into {written}")
        return func(*args, **(kwargs or {}))

    def note(self, kind: _Kind, detail: str) -> None:
        """Remember a cause, with the line of the user's that is running."""
        self.found.append((kind, detail, user_line()))

    def _written(self, func: Any, args: tuple[Any, ...]) -> str:
        """The parameter or buffer that the operator writes into, or an empty text."""
        for argument, value in zip(func._schema.arguments, args, strict=False):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            if writes and isinstance(value, Tensor) and _storage(value) in self.tensors:
                return self.tensors[_storage(value)]
        return ""


@dataclass
class _Contexts(TorchFunctionMode):
    """Notes an operator that runs under autocast, which is off around this call."""

    watch: Watch

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (),
                           kwargs: Any = None) -> Any:
        if torch.is_autocast_enabled("cpu"):
            self.watch.note(_AUTOCAST, "a trace records operators, not the context of a call")
        return func(*args, **(kwargs or {}))


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def cause_of(model: nn.Module, call: Call, *, differs: bool,
             kept: tuple[str, ...] = ()) -> TraceError | None:
    """Run the model once more under watch: the error for what makes it differ from call to call.

    `differs` says that it was seen to, so that there is an error in any case; `kept` names
    attributes that its calls have changed.
    """
    tensors = {_storage(t): f"self.{name}" for name, t in
               [*model.named_parameters(), *model.named_buffers()] if t.numel()}
    watch, before = Watch(tensors), _generators()
    with _assignments(model, watch), _Contexts(watch), watch:
        call()
    # a draw or a write may be harmless; a context changes what operators compute
    events = [e for e in watch.found if differs or e[0] is _AUTOCAST]
    if differs and not events:
        events = [_guess(kept, before != _generators())]
    for kind, detail, line in events[:1]:
        return TraceError(kind.what, where=line or line_of_code(type(model).forward), why=detail,
                          fix=kind.fix)
    return None


def _guess(kept: tuple[str, ...], drawn: bool) -> tuple[_Kind, str, str]:
    """The cause where no operator and no assignment shows one."""
    if drawn:
        return _RANDOM, "its forward calls Python's or numpy's random", ""
    if kept:
        return _STATE, f"its forward changes {', '.join(kept[:3])}", ""
    return _UNKNOWN, "two calls in a row differ", ""


def _generators() -> str:
    return repr((random.getstate(), np.random.get_state()))


@contextmanager
def _assignments(model: nn.Module, watch: Watch) -> Iterator[None]:
    """While inside, attributes that the modules of this copy are given are noted."""
    classes = [(path, module, type(module)) for path, module in model.named_modules()
               if not isinstance(module, torch.jit.ScriptModule)]
    for path, module, kind in classes:
        object.__setattr__(module, "__class__", _noting(kind, path, watch))
    try:
        yield
    finally:
        for _, module, kind in classes:
            object.__setattr__(module, "__class__", kind)


def _noting(kind: type, path: str, watch: Watch) -> type:
    """The class of a module, which also notes what is assigned to its attributes."""
    plainly: Any = kind.__setattr__

    def assign(self: Any, name: str, value: Any) -> None:
        watch.note(_STATE, f"the forward assigns to {'.'.join(filter(None, ('self', path, name)))}")
        plainly(self, name, value)

    return type(kind.__name__, (kind,), {"__setattr__": assign, "__module__": kind.__module__})
