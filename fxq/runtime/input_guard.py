"""What a compiled model takes: each call's inputs are looked up, new shapes are derived once.

Kernels trust the shapes that they were made for, and some read foreign memory for others. So a
call whose shapes the float model would refuse ends here, before any kernel. The first call with
some shapes runs the graph's shape program (about a millisecond); later ones are one look-up.

Fixed by compilation: the number of dimensions, the dtype, and how a trace split the channels.
Strides are free. A value whose shape only the call can tell (the user's own code, a selection by
values) is checked when it is there, by a node behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxq.errors import InputError
from fxq.ir.facts import info, set_info
from fxq.runtime.input_ranges import describe
from fxq.runtime.shape_program import Outcome, Refused, ShapeProgram, place_of
from fxq.runtime.shape_steps import Shape

MOST_SHAPES = 4096  # that one model remembers; the oldest go first
_PLAIN = (torch._C._disabled_torch_dispatch_impl, Tensor.__torch_dispatch__)


class InputGuard:
    """Refuses the inputs that float refuses; safe in threads.

    A call returns None, or the Outcome when some value has no element: no kernel is needed then.
    """

    def __init__(self, names: Sequence[str], program: ShapeProgram, device: str = "cpu") -> None:
        self.names, self.program = tuple(names), program
        self.devices = tuple(dict.fromkeys(("cpu", device)))
        self._known: dict[Any, Outcome | None] = {}
        self._lock = threading.Lock()
        self._call = threading.local()
        self._defers = bool(program.sources)

    def __call__(self, inputs: Sequence[Tensor]) -> Outcome | None:
        """Look the inputs up; raises InputError, which names one and says what the model takes."""
        try:
            outcome = self._known[tuple([
                (x.shape, x.dtype, x.layout, x.device, type(x)) for x in inputs])]
        except (KeyError, RuntimeError):  # nested tensors have no shape to look up
            outcome = self._admit(inputs)
        if self._defers:
            self._call.inputs, self._call.seen = tuple([tuple(x.shape) for x in inputs]), {}
        return outcome

    def _admit(self, inputs: Sequence[Tensor]) -> Outcome | None:
        for name, value, (shape, dtype) in zip(self.names, inputs, self.program.inputs,
                                               strict=True):
            reason = self._why_not(value, dtype)
            if reason:
                size = "" if value.is_nested else f" of shape {_text(tuple(value.shape))}"
                raise InputError(f"input {name!r}{size} is {reason}", fix="pass a dense "
                                 f"{dtype} tensor on {' or '.join(self.devices)}")
            if value.dim() != len(shape):
                raise self._error(inputs, [name], Refused(
                    "", why=f"it has {value.dim()} dimensions; compiling fixed {len(shape)}"))
        shapes = tuple(tuple(x.shape) for x in inputs)
        try:
            found = self.program.run(shapes)
        except Refused as refused:
            raise self._error(inputs, self._guilty(shapes), refused) from refused
        outcome = found if found.empty else None
        key = tuple([(x.shape, x.dtype, x.layout, x.device, type(x)) for x in inputs])
        self._remember(key, outcome)
        return outcome

    def _why_not(self, value: Tensor, dtype: torch.dtype) -> str:
        """What a tensor is that no kernel takes, or an empty text."""
        if value.is_nested:
            return "a nested tensor"
        if value.layout is not torch.strided:
            return f"a tensor of layout {str(value.layout).removeprefix('torch.')}"
        if value.device.type not in self.devices:
            return f"on the device {value.device}"
        if type(value).__torch_dispatch__ not in _PLAIN:
            return f"a {type(value).__name__}, which holds no plain memory"
        if value.dtype != dtype:
            return f"{value.dtype}, and the model was compiled for {dtype}"
        return ""

    def _remember(self, key: Any, outcome: Outcome | None) -> None:
        with self._lock:
            if len(self._known) >= MOST_SHAPES:
                self._known.pop(next(iter(self._known)))
            self._known[key] = outcome

    def arrived(self, place: int, value: Tensor) -> None:
        """Check the values behind one that only the call could tell; raises InputError."""
        shapes = getattr(self._call, "inputs", None) or tuple(s for s, _ in self.program.inputs)
        seen = {**getattr(self._call, "seen", {}), place: tuple(value.shape)}
        self._call.seen = seen
        key = (shapes, tuple(seen.items()), value.dtype)
        if key in self._known:
            return
        try:
            if value.dtype != self.program.sources[place]:
                raise Refused("", why=f"a value is {value.dtype}, and was "
                              f"{self.program.sources[place]} when the model was compiled")
            self.program.run(shapes, seen)
        except Refused as refused:
            raise InputError(f"the inputs of shapes {', '.join(map(_text, shapes))} lead to a "
                             f"value of {_text(tuple(value.shape))} that does not fit",
                             where=refused.where, why=refused.why) from refused
        self._remember(key, None)

    def _guilty(self, shapes: Sequence[Shape]) -> list[str]:
        """The inputs that do not fit, each beside the example's others; all, if each would."""
        example = [shape for shape, _ in self.program.inputs]
        alone = [name for i, name in enumerate(self.names) if not self.program.accepts(
            [*example[:i], shapes[i], *example[i + 1:]])]
        return alone or list(self.names)

    def _error(self, inputs: Sequence[Tensor], names: Sequence[str],
               refused: Refused) -> InputError:
        given = dict(zip(self.names, inputs, strict=True))
        what = " and ".join(f"input {n!r} of shape {_text(tuple(given[n].shape))}" for n in names)
        takes = describe(self.program)
        lines = [f"{name!r}: {text}" for name, text in zip(self.names, takes, strict=True)]
        return InputError(f"the model does not take {what}", where=refused.where,
                          why=refused.why, fix="it takes " + "\n".join(lines))


class Arrival:
    """A function of a graph that checks the shape of its input and returns it."""

    def __init__(self, guard: InputGuard, place: int) -> None:
        self.guard, self.place, self.__name__ = guard, place, "check_shape"

    def __call__(self, value: Tensor) -> Tensor:
        self.guard.arrived(self.place, value)
        return value


def check_arrivals(module: fx.GraphModule, guard: InputGuard) -> None:
    """Put a check behind every value whose shape only the call can tell."""
    for node in list(module.graph.nodes):
        place = place_of(node)
        if place is None:
            continue
        with module.graph.inserting_after(node):
            check = module.graph.call_function(Arrival(guard, place), (node,))
        set_info(check, info(node))
        node.replace_all_uses_with(check, lambda user, check=check: user is not check)
    module.recompile()


def has_arrivals(module: fx.GraphModule) -> bool:
    """The graph holds checks that must run at every call."""
    return any(isinstance(n.target, Arrival) for n in module.graph.nodes)


def _text(shape: Shape) -> str:
    return str(list(shape))


__all__ = ["InputGuard", "check_arrivals", "has_arrivals"]
