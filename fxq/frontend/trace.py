"""Capture a model as a FLOAT graph whose nodes know the user's source line and module.

The user's model is copied first and never touched. Parametrized weights are baked on the
copy. What torch.fx would get silently wrong (hooks, mutated buffers) is refused here.
"""

from __future__ import annotations

import copy
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError as FxTraceError
from torch.nn.utils import parametrize

from fxq.errors import FxqError, TraceError
from fxq.frontend.convention import PLACE, Convention
from fxq.frontend.nests import LEAF, Nest, flatten
from fxq.frontend.signature import Signature, call_with
from fxq.frontend.spellings import MODULES, TRANSPARENT
from fxq.frontend.state import state_of
from fxq.ir.facts import Info, info, set_info, set_untraceable
from fxq.ir.origins import Mark

_FXQ = os.path.dirname(os.path.dirname(__file__))
_LIBRARY = (os.path.dirname(torch.__file__ or "") + os.sep, _FXQ + os.sep)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")


@dataclass(frozen=True)
class Traced:
    """A FLOAT graph with flat inputs and outputs, and how the model is called."""

    graph_module: fx.GraphModule
    convention: Convention
    kept: tuple[str, ...] = ()  # attributes that the forward assigned while it was traced


class _Tracer(fx.Tracer):
    """Flat placeholders, buffers as graph nodes, source line and module path on each node."""

    proxy_buffer_attributes = True

    def __init__(self, signature: Signature, untraceable: Mapping[str, TraceError]) -> None:
        super().__init__()
        self.signature, self.untraceable = signature, untraceable
        self.failed = ""  # the innermost module that was running when tracing failed
        self.raised: list[tuple[str, TraceError]] = []  # by fx, and the module that was running
        self.paths: list[str] = []
        self.rebuild: Nest = LEAF
        self.fixed: tuple[Any, ...] = ()

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        proxies = [self.create_proxy("placeholder", name.replace(".", "_"), (), {})
                   for name in self.signature.names]

        def forward(root: nn.Module, *values: Any) -> Any:
            own = vars(root).get("forward", lambda *a, **k: root_fn(root, *a, **k))
            result = call_with(self.signature, own, list(values))
            leaves, self.rebuild = flatten(result)
            self.fixed = tuple(PLACE if isinstance(v, fx.Proxy | torch.Tensor) else v
                               for v in leaves)
            return tuple(v for v in leaves if isinstance(v, fx.Proxy | torch.Tensor))

        return forward, [self.root, *proxies]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, Mark | torch.jit.ScriptModule) or (
                module_qualified_name in self.untraceable):
            return True
        if "forward" in vars(m):  # the user gave this one instance another forward
            return False
        return type(m) in MODULES or (type(m) not in TRANSPARENT
                                      and super().is_leaf_module(m, module_qualified_name))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.paths.append(self.path_of_module(m))
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.paths[-1]
            raise
        finally:
            self.paths.pop()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def note(self, error: Exception) -> Exception:
        """Remember an error of tracing: the model may catch it, and go on without a branch."""
        reason = TraceError(f"{type(self.root).__name__} catches an error of tracing",
                            where=user_line(), why=str(error).split("\n")[0],
                            fix="move what depends on values out of the try, or out of the model")
        self.raised.append((self.paths[-1] if self.paths else "", reason))
        return error

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.noted(super().to_bool, obj))

    def iter(self, obj: fx.Proxy) -> Any:
        return self.noted(super().iter, obj)

    def noted(self, call: Callable[..., Any], *args: Any) -> Any:
        """The result of a call; what it raises is remembered."""
        try:
            return call(*args)
        except Exception as error:
            raise self.note(error) from None

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        path = self.paths[-1] if self.paths else ""
        set_info(node, Info(path=path, source=user_line(), is_module=kind == "call_module"))
        return node


class _Proxy(fx.Proxy):
    """A proxy whose refusal to be a number is remembered, should the model catch it."""

    def _refuse(self, kind: str) -> NoReturn:
        assert isinstance(self.tracer, _Tracer)
        raise self.tracer.note(FxTraceError(
            f"symbolically traced variables cannot be used as inputs to {kind}"))

    def __int__(self) -> int:
        self._refuse("int()")

    def __float__(self) -> float:
        self._refuse("float()")

    def __len__(self) -> int:
        assert isinstance(self.tracer, _Tracer)
        return int(self.tracer.noted(super().__len__))


def user_line() -> str:
    """The innermost frame that belongs to the user's model, as `file:line  text`."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame = frame.f_back  # type: ignore[assignment]
    return _format_line(frame.f_code.co_filename, frame.f_lineno) if frame else ""


def _format_line(filename: str, line: int) -> str:
    text = linecache.getline(filename, line).strip()
    place = "/".join(filename.split(os.sep)[-2:])
    return f"{place}:{line}  {text}"


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


def trace(model: nn.Module, signature: Signature) -> Traced:
    """Trace a private copy; the smallest modules that cannot be traced are called as they are.

    Raises TraceError, with the user's line, when the model's own forward cannot be traced.
    """
    untraceable: dict[str, TraceError] = {}
    state = state_of(model)
    while True:
        tracer = _Tracer(signature, untraceable)
        try:
            graph = tracer.trace(model)
            _refuse_state(model)
            module = fx.GraphModule(model, graph)
        except TraceError:
            raise
        except Exception as error:
            reason = _explain(model, error)
            if not tracer.failed or tracer.failed in untraceable:
                raise reason from error
            untraceable[tracer.failed] = reason
            continue
        finally:
            kept = state.restore()
        if not tracer.raised:
            break
        path, reason = tracer.raised[0]
        if not path or path in untraceable:
            raise reason
        untraceable[path] = reason
    for node in module.graph.nodes:
        if node.op == "call_module" and str(node.target) in untraceable:
            set_untraceable(node, untraceable[str(node.target)])
    kept = tuple(name for name in kept if "._tensor_constant" not in name)  # torch.fx's own
    convention = Convention(signature, tracer.rebuild, tracer.fixed)
    vars(tracer).clear()  # torch.fx's tracer is in a cycle, which would keep the model's weights
    return Traced(module, convention, kept)


def _refuse_state(model: nn.Module) -> None:
    """A forward that assigned to one of its buffers has left a proxy there."""
    for path, module in model.named_modules():
        for name, value in module._buffers.items():
            if isinstance(value, fx.Proxy):
                raise TraceError(f"the forward assigns to the buffer {path or 'self'}.{name}",
                                 where=info(value.node).source,
                                 why="a compiled model keeps no state between calls",
                                 fix="return the new value instead of keeping it")


def line_of_code(function: Any) -> str:
    """Where a function of the user's is defined, as `file:line  text`; empty for others."""
    code = getattr(function, "__code__", None)
    return _format_line(code.co_filename, code.co_firstlineno) if code else ""


def line_of(error: BaseException) -> str:
    """The innermost line of the user's that an exception passed through, or an empty text."""
    frames = [f for f in traceback.extract_tb(error.__traceback__)
              if not f.filename.startswith(_LIBRARY)]
    return _format_line(frames[-1].filename, frames[-1].lineno or 0) if frames else ""


def _explain(model: nn.Module, error: Exception) -> TraceError:
    text = str(error).strip().split("\n")[0]
    return TraceError(f"{type(model).__name__} cannot be traced", where=line_of(error), why=text,
                      fix=advice_on(text, "see the line above; the model must run on symbolic "
                                          "values (torch.fx)"))


def advice_on(text: str, otherwise: str) -> str:
    """What to do about a message of torch.fx's or Python's."""
    return next((advice for key, advice in _ADVICE.items() if key in text), otherwise)


_ADVICE = {  # by what torch.fx or Python says
    "control flow": "the branch depends on the values or sizes of a tensor: decide it from "
                    "constants, or move it out of the model",
    "cannot assign": "the model writes into one of its buffers: return the new value instead",
    "iterated": "give the number of parts: a, b = x.chunk(2, dim=1)",
    "item assignment": "use the operator that returns a new tensor (torch.where, torch.cat)",
    "recursion depth": "modules are nested too deeply: flatten them, or raise "
                       "sys.setrecursionlimit",
    'missing the required "forward"': "pass the module whose forward runs the model",
}
