"""The closures that a training graph calls: each reads the live model when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fxq.ir.ops import OPS
from fxq.qat.layer import Layer, NormNames, run_layer, run_norm, tensor_at
from fxq.qat.program import Hooks

if TYPE_CHECKING:
    from fxq.qat.model import QatModel


def hooks_of(owner: QatModel, constants: dict[str, Tensor],
             capture: Callable[[str, str, Tensor], Tensor],
             learned: Callable[[Layer], Tensor | None]) -> Hooks:
    """One closure for each kind of node.

    `constants` takes the tensors that are no parameters; `capture` sees every rounded value,
    `learned` gives the scales of a layer's weights, when they are parameters.
    """
    def quantize(name: str, key: str, observe: bool) -> Callable[..., Any]:
        return lambda x: capture(key, name, owner.quantizers[name](x, observe))

    def layer(spec: Layer) -> Callable[..., Any]:
        return lambda x: run_layer(spec, owner.model, x, learned(spec),
                                   owner.norms_frozen)

    def norm(names: NormNames, activation: str, attributes: dict[str, Any]) -> Any:
        def run(x: Tensor) -> Any:
            y = run_norm(names, owner.model, x, owner.norms_frozen)
            return OPS[activation].call(y, **attributes) if activation else y

        return run

    def constant(name: str, tensor: Tensor) -> Callable[[], Tensor]:
        constants[name] = tensor
        return lambda: constants[name]

    def dropout(spec: Any) -> Callable[..., Any]:
        if spec.module:
            return lambda x: owner.model.get_submodule(spec.module)(x)
        options = dict(spec.options)
        return lambda x: spec.function(x, **{**options, "training": owner.training})

    return {"quantize": quantize, "layer": layer, "norm": norm, "constant": constant,
            "dropout": dropout, "tensor": lambda path: lambda: tensor_at(owner.model, path),
            "submodule": lambda path: lambda *a, **k: owner.model.get_submodule(path)(*a, **k)}
