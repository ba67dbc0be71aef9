"""Capture a model as a FLOAT graph whose nodes know the user's source line and module.

What torch.fx would get silently wrong (mutated buffers, errors that the model catches) is refused
here; `private_copy` has refused the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError as FxTraceError

from fxq.errors import TraceError
from fxq.frontend.convention import PLACE, Convention
from fxq.frontend.nests import LEAF, Nest, flatten
from fxq.frontend.signature import Signature, call_with
from fxq.frontend.source_lines import line_of, user_line
from fxq.frontend.spellings import MODULES, TRANSPARENT
from fxq.frontend.state import state_of
from fxq.ir.facts import Info, info, set_info, set_untraceable
from fxq.ir.origins import Mark


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
