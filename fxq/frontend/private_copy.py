"""The copy that fxq works on: the user's model is never touched.

Parametrized weights are baked on the copy. What a copy or a graph would lose silently (hooks, lazy
parameters, wrappers) is refused here.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from fxq.errors import FxqError, TraceError

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")



def private_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode with parametrized weights baked in.

    Raises TraceError for what a copy or a graph would lose: hooks, lazy parameters,
    TorchScript, wrappers, batch norms that were deliberately left in training mode.
    """
    _refuse_untraceable(model)
    try:
        twin = copy.deepcopy(model)
    except FxqError:  # a compiled model says itself why it cannot be copied
        raise
    except Exception as error:
        raise TraceError(f"{type(model).__name__} cannot be copied: {error}",
                         why="fxq never changes your model, so it works on a copy",
                         fix="leave out what copy.deepcopy cannot copy: locks, open files, "
                             "weight_norm hooks (use torch.nn.utils.parametrizations)") from error
    twin.eval().requires_grad_(False)
    for module in list(twin.modules()):
        if parametrize.is_parametrized(module):
            _bake(module)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # a check of the input's rank is a branch that a trace cannot take; eager has passed it
            object.__setattr__(module, "_check_input_dim", lambda input: None)
    return twin


def _bake(module: nn.Module) -> None:
    """Replace parametrizations by the values they give.

    torch's own `remove_parametrizations` would edit the class, which the user's model shares.
    """
    values = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
    del module._modules["parametrizations"]
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _refuse_untraceable(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TraceError(f"expected a torch.nn.Module, got {type(model).__name__}")
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.jit.ScriptModule)
    if isinstance(model, wrappers) or type(model).__name__ == "OptimizedModule":
        raise TraceError(f"{type(model).__name__} is a wrapper that cannot be traced",
                         fix="pass the model inside: model.module, or the one before "
                             "torch.compile / torch.jit")
    for path, module in model.named_modules():
        _refuse_module(path or "the model itself", module, model.training)


def _refuse_module(path: str, module: nn.Module, training: bool) -> None:
    hooks = [kind for kind in _HOOKS if getattr(module, kind, None)]
    if hooks:
        raise TraceError(f"{path} ({type(module).__name__}) has {hooks[0].strip('_')}",
                         why="hooks are not part of the graph and would be lost silently",
                         fix="remove the hook before compiling (handle.remove())")
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and not training:
        raise TraceError(f"{path} is a batch norm in training mode inside a model in eval mode",
                         why="it would normalize by the batch, which no compiled graph can do",
                         fix="call model.eval(), or model.train() to let fxq switch all of it")
    if any(isinstance(p, nn.UninitializedParameter) for p in module._parameters.values()):
        raise TraceError(f"{path} has lazy parameters that were never initialized",
                         fix="run the model once on real input")
