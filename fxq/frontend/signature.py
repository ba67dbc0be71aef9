"""How a call of the user's model becomes flat tensors, and results become its outputs.

Tracing fixes everything that is no tensor (flags, None, sizes): those values are recorded
here, and a later call that passes others is refused instead of being answered wrongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fxq.errors import ConfigError, InputError
from fxq.frontend.nests import Nest, flatten

Kwargs = Mapping[str, Any]


@dataclass(frozen=True)
class Signature:
    """The inputs of one traced call.

    `names` has one entry a flat tensor; `leaves` are the example's leaves in order, tensors
    included; `rebuild` turns such leaves into (args, kwargs).
    """

    parameters: inspect.Signature
    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    rebuild: Nest

    @cached_property
    def _plain_dtypes(self) -> list[torch.dtype] | None:
        """The dtypes of the inputs, if they are tensors passed by position and nothing else."""
        plain = all(isinstance(leaf, Tensor) for leaf in self.leaves) and all(
            "." not in name for name in self.names)
        return [leaf.dtype for leaf in self.leaves] if plain else None

    def tensors(self, args: tuple[Any, ...], kwargs: Kwargs) -> list[Tensor]:
        """The flat tensors of a call. Raises ConfigError when it differs from the traced one."""
        if not kwargs and self._plain_dtypes == [getattr(a, "dtype", None) for a in args]:
            return list(args)  # the common call, without the cost of binding
        leaves, _ = flatten(_bind(self.parameters, args, kwargs))
        if len(leaves) != len(self.leaves):
            raise ConfigError(f"the call has {len(leaves)} inputs, the compiled model "
                              f"{len(self.leaves)}", fix=_RECOMPILE)
        names = iter(self.names)
        for position, (leaf, traced) in enumerate(zip(leaves, self.leaves, strict=True)):
            name = repr(next(names)) if isinstance(traced, Tensor) else position
            _check_leaf(name, leaf, traced)
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


_RECOMPILE = "compile again with example inputs like this call"


def _check_leaf(name: str | int, leaf: Any, traced: Any) -> None:
    if isinstance(traced, Tensor) != isinstance(leaf, Tensor):
        raise InputError(f"input {name} is {type(leaf).__name__}, was "
                         f"{type(traced).__name__} when the model was compiled", fix=_RECOMPILE)
    if isinstance(leaf, Tensor) and leaf.dtype != traced.dtype:
        raise InputError(f"input {name} of shape {list(leaf.shape)} is {leaf.dtype}, and the "
                         f"model was compiled for {traced.dtype}", fix=f"pass x.to({traced.dtype})")
    if not isinstance(leaf, Tensor) and leaf is not traced and leaf != traced:
        raise ConfigError(f"input {name} is {leaf!r}, was {traced!r} when the model was "
                          "compiled", why="values that are no tensor are fixed by tracing",
                          fix=_RECOMPILE)


def _bind(parameters: inspect.Signature, args: tuple[Any, ...], kwargs: Kwargs) -> dict[str, Any]:
    try:
        bound = parameters.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"the inputs do not fit the model: {error}",
                          where=f"forward{parameters}") from None
    bound.apply_defaults()
    return dict(bound.arguments)


def signature_of(model: nn.Module, args: tuple[Any, ...], kwargs: Kwargs) -> Signature:
    """Bind example inputs to the model's own signature."""
    parameters = inspect.signature(model.forward)
    bound = _bind(parameters, args, kwargs)
    leaves, rebuild = flatten(bound)
    names = [name for key, value in bound.items() for name in _leaf_names(key, value)]
    tensor_names = tuple(n for n, leaf in zip(names, leaves, strict=True)
                         if isinstance(leaf, Tensor))
    if not tensor_names:
        raise ConfigError("the example inputs hold no tensor",
                          fix="pass example_inputs=(torch.randn(1, 3, 224, 224),)")
    return Signature(parameters, tensor_names, tuple(leaves), rebuild)


def _leaf_names(key: str, value: Any) -> list[str]:
    leaves, _ = flatten(value)
    return [key] if len(leaves) == 1 and leaves[0] is value else [
        f"{key}.{i}" for i in range(len(leaves))]


def call_with(signature: Signature, forward: Callable[..., Any], values: list[Any]) -> Any:
    """Call `forward` with the traced structure, its tensors replaced by `values`."""
    fresh = iter(values)
    leaves = [next(fresh) if isinstance(leaf, Tensor) else leaf for leaf in signature.leaves]
    arguments = signature.rebuild(iter(leaves))
    bound = inspect.BoundArguments(signature.parameters, arguments)
    return forward(*bound.args, **bound.kwargs)
