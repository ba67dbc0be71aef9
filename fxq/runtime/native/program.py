"""A part of a LOWERED graph that runs as one call; programs are made for each shape and stride."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node

from fxq.ir import arithmetic
from fxq.kernels.native import library
from fxq.kernels.native.assembly import Assembly, Weighted, key_of
from fxq.kernels.native.structs import EXTERNAL
from fxq.runtime.native.assemble import WEIGHTED, assemble, same
from fxq.runtime.native.emit import EMIT, WRITERS
from fxq.runtime.native.linked import Linked, channels_last, layer_of
from fxq.runtime.native.matrices import images, matrices
from fxq.runtime.native.plan import Plan, images_of, zero_of
from fxq.runtime.native.segments import Part, alone
from fxq.runtime.native.steps import Unplanned
from fxq.runtime.native.values import Value
from fxq.runtime.python import Function, build

MOST_PROGRAMS = 32  # that one part keeps; the oldest go first


class Segment:
    """Computes a part's outputs: a program for inputs of each shape, or torch where none fits."""

    def __init__(self, module: fx.GraphModule, part: Part) -> None:
        self.module, self.part, self.__name__ = module, part, "native_program"
        self.programs: dict[Any, Callable[..., Any]] = {}
        self.layers: dict[Node, library.Layer] = {}
        self.reason = ""  # why some inputs got no program
        self._lock = threading.Lock()

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.part.rows:
            return self._of_rows(tensors)
        key = key_of(tensors)
        try:
            call = self.programs[key]
        except KeyError:
            call = self._make(key, tensors)
        return call(*tensors)  # type: ignore[no-any-return]

    def _of_rows(self, tensors: Sequence[Tensor],
                 linked: Callable[..., Any] | None = None) -> tuple[Tensor, ...]:
        """All dimensions but the last as one, and back."""
        outer, flat = tensors[0].shape[:-1], _rows(tensors)
        key = key_of(flat)
        call = linked or self.programs.get(key) or self._make(key, flat)
        return tuple([t.view(*outer, t.shape[-1]) for t in call(*flat)])

    def through(self, linked: Linked, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What `linked`, a program of this part, makes of a caller's tensors."""
        return self._of_rows(tensors, linked) if self.part.rows else linked(*tensors)

    def _make(self, key: Any, tensors: Sequence[Tensor]) -> Callable[..., Any]:
        with self._lock:
            try:
                call: Callable[..., Any] = self.link(tensors)
            except Unplanned as error:
                self.reason, call = str(error), self._in_torch
            if len(self.programs) >= MOST_PROGRAMS:
                self.programs.pop(next(iter(self.programs)))
            self.programs[key] = call
            return call

    @cached_property
    def _in_torch(self) -> Function:
        return build(alone(self.module, self.part))  # type: ignore[arg-type]

    def link(self, tensors: Sequence[Tensor]) -> Planned:
        """The program for such inputs. Raises Unplanned."""
        tensors = _rows(tensors) if self.part.rows else tensors
        plan = self.plan(tensors)
        code = assemble(plan, len(tensors))
        nodes = [step.node for step in plan.steps if step.op in WEIGHTED]
        return Planned(plan, code, [self._layer(n, row) for n, row in zip(
            nodes, code.layers, strict=True)])

    def adopt(self, code: Assembly, linked: Linked) -> bool:
        """Keep a program and its weights, if it is the one that is planned here for its inputs."""
        tensors = [torch.empty(about.shape, dtype=about.dtype) for about in code.inputs]
        plan = self.plan(tensors)
        if self.part.rows or not same(assemble(plan, len(tensors)), code):
            return False
        nodes = [step.node for step in plan.steps if step.op in WEIGHTED]
        self.layers |= dict(zip(nodes, linked.program.layers, strict=True))
        self.programs[key_of(tensors)] = linked
        return True

    def plan(self, tensors: Sequence[Tensor]) -> Plan:
        """The values and steps for such inputs. Raises Unplanned."""
        inputs = dict(zip(self.part.inputs, tensors, strict=True))
        if self.part.matrices:
            return self._of_matrices(inputs)
        plan = Plan(self.part.nodes, self.part.outputs, images_of(inputs), WRITERS,
                    self.part.rows)
        for node, tensor in inputs.items():
            as_it_lies = tensor.is_floating_point() or self._enters(node)
            tensor = tensor if as_it_lies else channels_last(tensor)
            value = plan.external(tensor.shape, tensor.stride(), tensor.element_size(),
                                  zero_of(node), as_it_lies)
            plan.values[node] = value if as_it_lies else _import(plan, node, value)
        for node in self.part.nodes:
            EMIT[node.target](plan, node)
        for node in self.part.outputs:
            _export(plan, node)
        return plan

    def _enters(self, node: Node) -> bool:
        """All that this part does with an input is to let its bytes enter."""
        return all(u.target is arithmetic.enter_bytes for u in node.users if u in self.part.nodes)

    def _of_matrices(self, inputs: Mapping[Node, Tensor]) -> Plan:
        count = images(next(iter(inputs.values())).shape)
        plan = Plan(self.part.nodes, self.part.outputs, count, WRITERS)
        for node, tensor in inputs.items():
            plan.values[node] = matrices(plan, tensor.shape, tensor.stride(), 1)
        for node in self.part.nodes:
            EMIT[node.target](plan, node)
        return plan

    def _layer(self, node: Node, row: Weighted) -> library.Layer:
        """The weights of a step; all programs of the part share them."""
        if node not in self.layers:
            self.layers[node] = layer_of(row)
        return self.layers[node]


def _rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.reshape(-1, t.shape[-1]) for t in tensors]


def _import(plan: Plan, node: Node, value: Value) -> Value:
    """Integers of the caller in memory of the program's own, which can have a border."""
    inside = plan.fresh(node, value.h, value.w, value.c)
    plan.append("TABLE", node, value, inside)
    return inside


def _export(plan: Plan, node: Node) -> None:
    """An output of integers is copied into a tensor of the caller, in channels_last."""
    value = plan.values[node]
    if value.storage.space >= EXTERNAL and value.storage.element == 4:
        return
    n, c, h, w = plan.images, value.c, value.h, value.w
    shape = (n, c, *{2: (), 3: (w,)}.get(value.rank, (h, w)))
    strides = {2: (c, 1), 3: (w * c, 1, c)}.get(value.rank, (h * w * c, 1, w * c, c))
    target = plan.external(shape, strides, 1, value.zero, as_it_lies=False)
    plan.append("TABLE", node, value, target)
    plan.values[node] = target


class Planned(Linked):
    """A program and the plan behind it."""

    def __init__(self, plan: Plan, assembly: Assembly, layers: Sequence[library.Layer]) -> None:
        super().__init__(assembly, layers)
        self.plan = plan


__all__ = ["Linked", "Planned", "Segment"]
