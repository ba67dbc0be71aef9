"""`prepare_qat`: from a float model to the module that is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxq.compiler.prepare import make_context
from fxq.errors import CalibrationError, ConfigError
from fxq.frontend.example_inputs import example_inputs_for
from fxq.frontend.private_copy import private_copy
from fxq.qat.fake_quantize import FakeQuantize
from fxq.qat.model import QatModel
from fxq.quantization.calibrators import AUTO, get_calibrator
from fxq.quantization.schemes import Mode, Scheme, get_scheme, trained
from fxq.quantization.statistics import Statistics
from fxq.quantization.tensor_statistics import TensorStatistics
from fxq.targets import Target


def prepare_qat(model: nn.Module, *, target: str | Target = "fbgemm",
                scheme: str | Scheme = "int8_qat", example_inputs: tuple[Any, ...] | None = None,
                example_kwargs: Mapping[str, Any] | None = None,
                statistics: Statistics | str | Path | None = None, calibrator: str | None = None,
                overrides: Mapping[Any, str] | None = None,
                learn_scales: bool = False) -> QatModel:
    """Make a module whose forward rounds as the compiled model will, ready to be trained.

    The user's model is copied. `scheme` may be any static or half-precision one; without
    `statistics` of a calibration, ranges are observed during training. `learn_scales` makes all
    scales parameters (LSQ). Raises ConfigError, TraceError and CalibrationError as `prepare` does.
    """
    chosen = get_scheme(scheme)
    if chosen.mode not in (Mode.STATIC, Mode.HALF):
        raise ConfigError(f"scheme {chosen.name!r} has nothing to train",
                          fix='use "int8_qat", "fp16_qat", "int16_qat" or "W4A8"')
    context = make_context(model, target, chosen if chosen.trained else trained(chosen),
                           calibrator, overrides)
    if Mode.DYNAMIC in context.scheme.modes:
        raise ConfigError("an override asks for ranges at run time, which cannot be trained",
                          fix='override with "fp32"')
    args = example_inputs if example_inputs is not None else (
        () if example_kwargs else example_inputs_for(model))
    args = args if isinstance(args, tuple) else (args,)
    qat = QatModel(_trainable_copy(model), context, _detached(args), example_kwargs or {},
                   learn_scales)
    if statistics is not None:
        seen = statistics if isinstance(statistics, Statistics) else Statistics.load(statistics)
        _start_from(qat, seen)
    return qat.train()


def _detached(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args)


def _trainable_copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters learn where the user's do."""
    twin = private_copy(model)
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(wanted.get(name, True) and parameter.is_floating_point())
    for module in twin.modules():
        module.__dict__.pop("_check_input_dim", None)  # set for tracing only; it cannot be pickled
    return twin


def _start_from(qat: QatModel, statistics: Statistics) -> None:
    """Ranges as calibration chooses them; they stay, unless the scales are learned."""
    rule = qat.context.scheme.activation_calibrator
    choose = get_calibrator("mse" if rule == AUTO else rule)
    for group in qat.plan.groups:
        quantizer = qat.quantizers[group.name]
        if not isinstance(quantizer, FakeQuantize) or quantizer.fixed is not None:
            continue
        merged = TensorStatistics()
        for key in sorted(group.observed):
            merged = merged.merge(statistics.get(key, TensorStatistics()))
        if not merged.seen:
            raise CalibrationError(f"the statistics do not know {group.keys[0]}",
                                   fix="calibrate this very model, and save again")
        quantizer.set_range(*choose(merged, group.spec))
