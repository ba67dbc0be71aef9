"""The module that users train: their model's own parameters, with the compiled model's rounding."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from fxq.analysis.context import Context, Given
from fxq.compiler.prepare import Prepared, prepare_in
from fxq.errors import ConfigError, FxqWarning
from fxq.frontend.convention import Convention
from fxq.qat.fake_quantize import FakeQuantize, RoundHalf
from fxq.qat.hooks import hooks_of
from fxq.qat.layer import (
    Layer,
    fold_factor,
    integer_weight,
    tensor_at,
)
from fxq.qat.program import Group, Plan, build_program
from fxq.quantization.weights import IntegerWeight, weight_scales
from fxq.runtime.python import Function
from fxq.system.machine import is_native
from fxq.targets import get_target


@dataclass
class Machinery:
    """What is made from the model's own code, and made anew in a copy: it is never pickled."""

    convention: Convention
    function: Function
    plan: Plan
    constants: dict[str, Tensor]
    captured: dict[str, tuple[str, Tensor]] | None = None  # values by key, while someone looks


class QatModel(nn.Module):
    """An ordinary trainable module: same call, same outputs, rounded like the compiled model.

    `model` holds the parameters under their own names, batch norms and dropout live. Train it with
    any loop (autocast, DistributedDataParallel, checkpoints), then call `fxq.convert`. It can be
    copied and pickled.
    """

    machinery: Machinery
    model: nn.Module

    def __init__(self, model: nn.Module, context: Context, inputs: tuple[Any, ...],
                 kwargs: Mapping[str, Any], learned: bool) -> None:
        super().__init__()
        self.model = model
        self.quantizers = nn.ModuleDict()
        self.weight_scales = nn.ParameterDict()
        self.context, self.learned = context, learned
        self.example = (inputs, dict(kwargs))
        self.norms_frozen = False
        self._rebuild(first=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        convention = self.machinery.convention
        outputs = iter(self.machinery.function(*convention.signature.tensors(args, kwargs)))
        return convention.outputs(outputs)

    def _rebuild(self, first: bool) -> None:
        """Trace the model again and make the function that runs it."""
        untrained = replace(self.context, scheme=replace(self.context.scheme, trained=False))
        prepared = prepare_in(untrained, _in_eval_mode(self.model), *self.example, verify=first)
        constants: dict[str, Tensor] = {}
        hooks = hooks_of(self, constants, self._capture, self._learned)
        function, plan = build_program(prepared.graph_module, self.context, self.model,
                                       prepared.model, hooks)
        self.machinery = Machinery(prepared.convention, function, plan, constants)
        if first:
            self._add_modules()
            if plan.dropouts:
                warnings.warn(f"dropout is left out of training at {', '.join(plan.dropouts)}: "
                              "its input has other readers too", FxqWarning, stacklevel=4)

    @property
    def plan(self) -> Plan:
        """What is rounded in training."""
        return self.machinery.plan

    def _learned(self, layer: Layer) -> Tensor | None:
        """The scales of a layer's weights, when they are parameters."""
        name = _name(layer)
        return self.weight_scales[name] if name in self.weight_scales else None  # noqa: SIM401

    def _add_modules(self) -> None:
        for group in self.plan.groups:
            self.quantizers[group.name] = self._quantizer(group)
        for layer in self.plan.layers if self.learned else []:
            if layer.spec is not None and layer.spec.symmetric and layer.axis is not None:
                self.weight_scales[_name(layer)] = nn.Parameter(self._start_scales(layer))

    def _quantizer(self, group: Group) -> nn.Module:
        if self.context.scheme.half:
            return RoundHalf(group.keys[0], getattr(torch, self.context.scheme.half))
        return FakeQuantize(group.keys[0], group.spec, group.fixed, self.learned)

    def _start_scales(self, layer: Layer) -> Tensor:
        assert layer.spec is not None
        return weight_scales(self._folded(layer), layer.axis, layer.spec, layer.rule)[0]

    def _folded(self, layer: Layer) -> Tensor:
        weight = tensor_at(self.model, layer.weight)
        assert weight is not None
        factor = fold_factor(layer, self.model, weight)
        return (weight if factor is None else weight * factor).detach().float()

    def _capture(self, key: str, name: str, value: Tensor) -> Tensor:
        if self.machinery.captured is not None:
            self.machinery.captured[key] = (name, value.detach())
        return value

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.model.modules() if self.norms_frozen else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def freeze_observers(self) -> None:
        """Keep all ranges as they are from now on."""
        for quantizer in self.quantizers.values():
            quantizer.observing = False  # type: ignore[assignment]

    def freeze_batch_norm(self) -> None:
        """Normalize by the running statistics from now on, as the compiled model does."""
        self.norms_frozen = True
        self.train(self.training)

    def given(self) -> Given:
        """The trained formats, by the keys of the values."""
        formats = {key: quantizer.qparams() for group in self.plan.groups for key in group.keys
                   if isinstance(quantizer := self.quantizers[group.name], FakeQuantize)}
        weights = {layer.key: self._integers(layer) for layer in self.plan.layers
                   if layer.spec is not None}
        return Given(formats, weights)

    def _integers(self, layer: Layer) -> IntegerWeight:
        with torch.no_grad():
            return integer_weight(layer, self._folded(layer), self._learned(layer))

    def freeze(self) -> Prepared:
        """The trained model as one that only needs to be converted; this one may train on."""
        context = replace(self.context, given=self.given())
        twin = _in_eval_mode(copy.deepcopy(self.model)).cpu()
        prepared = prepare_in(context, twin, *_on_cpu(self.example))
        prepared.calibration = "trained"
        return prepared

    def extra_repr(self) -> str:
        return f"target={self.context.target.name}, scheme={self.context.scheme.name}"

    def get_extra_state(self) -> dict[str, Any]:
        return {"norms_frozen": self.norms_frozen, "target": self.context.target.name,
                "scheme": self.context.scheme.name}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        mine = self.get_extra_state()
        for name in ("target", "scheme"):
            if state[name] != mine[name]:
                raise ConfigError(f"this checkpoint was trained for {name} {state[name]!r}, not "
                                  f"{mine[name]!r}", why="its ranges fit other kernels",
                                  fix=f"fxq.prepare_qat(..., {name}={state[name]!r})")
        self.norms_frozen = state["norms_frozen"]

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "machinery"}
        return state | {"context": (self.context.target.name, self.context.scheme)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        target, scheme = state["context"]  # a target is a table of functions: only its name keeps
        context = Context(get_target(target), scheme, native_half=is_native(scheme.half))
        super().__setstate__(state | {"context": context})  # type: ignore[no-untyped-call]
        self._rebuild(first=False)


def _name(layer: Layer) -> str:
    return layer.key.replace(".", "_").replace("%", "value")


def _in_eval_mode(model: nn.Module) -> nn.Module:
    """A copy of the model as inference has it; the model itself keeps training."""
    return copy.deepcopy(model).eval()


def _on_cpu(example: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[Any, Any]:
    def move(value: Any) -> Any:
        return value.cpu() if isinstance(value, Tensor) else value

    return tuple(map(move, example[0])), {k: move(v) for k, v in example[1].items()}

