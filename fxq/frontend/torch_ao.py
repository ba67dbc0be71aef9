"""Read models that were prepared, calibrated or trained with torch.ao's FX workflow.

The only file that knows torch.ao.quantization, which is deprecated upstream; it is imported when
it is used. Without that package everything else works.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fxq.errors import CalibrationError, ConfigError
from fxq.ir.ops import OPS
from fxq.ir.origins import Mark
from fxq.quantization.formats import QParams, signed
from fxq.quantization.schemes import SCHEMES, Scheme
from fxq.quantization.weights import IntegerWeight, round_weight

_REDUCED = 127  # largest activation under reduce_range: no pair of weights can saturate then
_CALIBRATORS = {"MinMaxObserver": "minmax", "HistogramObserver": "mse",
                "MovingAverageMinMaxObserver": "moving_average"}


@dataclass(frozen=True)
class Import:
    """A prepared model without its observers: a plain module, and what they had decided.

    `weights` are the integers of each layer, by its path; formats of values are marks in `plain`.
    `reduced` says that activations keep to 7 bits, so that no pair of weights can saturate.
    """

    plain: fx.GraphModule
    weights: Mapping[str, IntegerWeight]
    reduced: bool

    def weight_of(self, path: str) -> IntegerWeight | None:
        """The integers of the prepared module that a node belongs to: itself or a fused pair."""
        return self.weights.get(path) or self.weights.get(path.rpartition(".")[0])


def read_prepared(prepared: nn.Module) -> Import:
    """Read what torch.ao observed or trained; `prepared` is left as it is.

    Raises ConfigError for a model that it did not prepare, CalibrationError for an observer that
    has seen nothing.
    """
    if not isinstance(prepared, fx.GraphModule) or not any(map(_is_observer, prepared.modules())):
        raise ConfigError(f"{type(prepared).__name__} was not prepared by torch.ao",
                          why="no observer or fake-quantize module is in it",
                          fix="pass what prepare_fx or prepare_qat_fx returned, not convert_fx")
    plain = copy.deepcopy(prepared).eval()
    reduced = all(int(m.quant_max) <= _REDUCED for m in plain.modules()  # type: ignore[arg-type]
                  if _is_observer(m) and getattr(m, "dtype", None) is torch.quint8)
    return Import(plain, _plain_modules(plain), reduced)


def _is_observer(module: nn.Module) -> bool:
    from torch.ao.quantization import FakeQuantizeBase, ObserverBase  # deprecated upstream

    return isinstance(module, FakeQuantizeBase | ObserverBase)


def _plain_modules(model: fx.GraphModule) -> dict[str, IntegerWeight]:
    """Turn observers into marks and fused modules into plain ones; gives the integer weights."""
    weights: dict[str, IntegerWeight] = {}
    called = [str(n.target) for n in model.graph.nodes if n.op == "call_module"]
    for path in dict.fromkeys(called):
        module = model.get_submodule(path)
        if _is_observer(module):
            _set(model, path, Mark(_activation_format(path, module)))
            continue
        plain = _plain(module)
        layer = plain[0] if isinstance(plain, nn.Sequential) else plain
        qconfig = getattr(module, "qconfig", None)
        if qconfig is not None and isinstance(getattr(layer, "weight", None), Tensor) and (
                isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)):
            weights[path] = _integer_weight(path, module, layer, qconfig)
        _set(model, path, plain)
    return weights


def _plain(module: nn.Module) -> nn.Module:
    """A module of torch.nn with the same function: folded, without fake quantization."""
    if hasattr(module, "weight_fake_quant"):
        module = module.to_float()  # type: ignore[operator]
    if type(module).__module__.startswith("torch.ao.nn.intrinsic"):
        return nn.Sequential(*(m for m in module.children()))
    return module


def _set(model: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module.eval())


def _activation_format(path: str, module: Any) -> QParams | None:
    """Scale and zero point as convert_fx would have them; None for what it leaves in float."""
    if getattr(module, "dtype", None) is not torch.quint8 or getattr(module, "is_dynamic", False):
        return None
    scale, zero = _calculated(path, module)
    return QParams(float(scale), int(zero))


def _calculated(path: str, module: Any) -> tuple[Tensor, Tensor]:
    inner = getattr(module, "activation_post_process", module)
    low = getattr(inner, "min_val", None)
    if low is not None and (low.numel() == 0 or bool((low == float("inf")).any())):
        raise CalibrationError(f"{path} has not observed anything",
                               why="torch.ao would go on with scale 1 and zero point 0",
                               fix="run the prepared model on calibration data, or train it, first")
    scale, zero = module.calculate_qparams()
    return scale, zero


def _integer_weight(path: str, module: nn.Module, layer: Any, qconfig: Any) -> IntegerWeight:
    observer = getattr(module, "weight_fake_quant", None) or qconfig.weight()
    observer(layer.weight)  # once more after training too, as convert_fx does (pytorch#73941)
    scale, zero = _calculated(f"{path}.weight", observer)
    if bool((zero != 0).any()) or observer.dtype is not torch.qint8:
        raise ConfigError(f"the weights of {path} are affine, or not of 8 bits",
                          fix="use a symmetric qint8 weight observer")
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    axis = int(transposed) if scale.numel() > 1 else None
    scales = scale.detach().float().reshape(-1)
    return IntegerWeight(round_weight(layer.weight.detach(), scales, axis,
                                      signed(8, per_channel=axis is not None)), scales)


def scheme_from_mapping(model: nn.Module, mapping: Any) -> tuple[Scheme, dict[Any, str]]:
    """A QConfigMapping as a scheme and its overrides.

    Types that do not occur in the model are left out, as torch.ao does; module names that match
    nothing are errors later. `reduce_range` is dropped: fxq keeps weights apart where pairs
    could saturate, and needs no narrower activations.
    """
    whole = _scheme_of(mapping.global_qconfig)
    overrides: dict[Any, str] = {}
    kinds = {type(m) for m in model.modules()}
    for key, qconfig in mapping.object_type_qconfigs.items():
        name = getattr(key, "__name__", key)
        known = key if key in kinds else name if not isinstance(key, type) and name in OPS else None
        if known is not None and _scheme_of(qconfig).name != whole.name:
            overrides[known] = _scheme_of(qconfig).name
    for key, qconfig in mapping.module_name_qconfigs.items():
        overrides[key] = _scheme_of(qconfig).name
    return whole, overrides


def _scheme_of(qconfig: Any) -> Scheme:
    if qconfig is None:
        return SCHEMES["fp32"]
    activation, weight = qconfig.activation(), qconfig.weight()
    if getattr(activation, "is_dynamic", False):
        return SCHEMES["int8_dynamic"]
    if getattr(activation, "dtype", None) is not torch.quint8:
        return SCHEMES["int8_weight_only"] if weight.dtype is torch.qint8 else SCHEMES["fp32"]
    observer = getattr(activation, "activation_post_process", activation)
    rule = _CALIBRATORS.get(type(observer).__name__, "mse")
    per_channel = getattr(weight, "qscheme", None) is torch.per_channel_symmetric
    return replace(SCHEMES["int8_static"], activation_calibrator=rule,
                   weight=signed(8, per_channel=per_channel))
