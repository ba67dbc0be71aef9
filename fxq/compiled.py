"""What a user gets: a module that is called like the model it came from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from fxq.errors import ConfigError, VerificationError, did_you_mean
from fxq.isolation import EngineGuard
from fxq.report import Report
from fxq.runtime.python import Function
from fxq.stage import Stage
from fxq.trace import PLACE, Traced


class CompiledModel(nn.Module):
    """A compiled model: same signature, same output structure, inference only.

    `report` says what was done; `graph_text(stage)` is the canonical text of a stage;
    `size_bytes` counts all parameters as they are kept (int8 weights, float32 scales, biases).
    Integers have no NaN: an input's NaN becomes the largest number, infinities the ends of the
    range. With `check_finite` such inputs raise VerificationError instead.
    """

    graph_module: fx.GraphModule

    def __init__(self, *, function: Function, traced: Traced, engine: str | None,
                 texts: Mapping[Stage, str], report: Report, graph_module: fx.GraphModule,
                 check_finite: bool = False) -> None:
        super().__init__()
        self._function: Function
        object.__setattr__(self, "graph_module", graph_module)
        object.__setattr__(self, "_function", function)  # no submodule, even if it is one
        self._signature, self._traced = traced.signature, traced
        self.check_finite = check_finite
        self._guard = EngineGuard(engine) if engine else None
        self._texts, self.report = dict(texts), report
        self._single = traced.rebuild_output is next and traced.fixed_outputs == (PLACE,)
        super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        inputs = self._signature.tensors(args, kwargs)
        if self.check_finite:
            self._refuse_not_finite(inputs)
        needs_engine = self._guard is not None and EngineGuard.is_needed()
        if needs_engine or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            outputs = self._call_shielded(inputs, needs_engine)
        else:
            outputs = self._function(*inputs)
        return outputs[0] if self._single else self._traced.outputs(iter(outputs))

    def _refuse_not_finite(self, inputs: list[Tensor]) -> None:
        for name, value in zip(self._signature.names, inputs, strict=True):
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise VerificationError(f"input {name!r} holds NaN or infinity",
                                        why="as integers they would become ordinary numbers",
                                        fix="clean the input, or compile without check_finite")

    def _call_shielded(self, inputs: list[Tensor], needs_engine: bool) -> tuple[Tensor, ...]:
        """The call, with everything switched off that would change its bits."""
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if torch.is_autocast_enabled("cpu"):
                stack.enter_context(torch.autocast("cpu", enabled=False))
            if needs_engine and self._guard is not None:
                stack.enter_context(self._guard)
            outputs: tuple[Tensor, ...] = self._function(*inputs)
            return outputs

    def graph_text(self, stage: str | Stage = Stage.LOWERED) -> str:
        """The canonical text of one stage; raises ConfigError for a stage that never was."""
        names = {str(s): text for s, text in self._texts.items()}
        if str(stage).upper() not in names:
            raise ConfigError(f"no stage {stage!r}", fix=did_you_mean(str(stage).upper(), names))
        return names[str(stage).upper()]

    @property
    def size_bytes(self) -> int:
        return self.report.size_bytes

    def train(self, mode: bool = True) -> Self:
        if mode:
            raise ConfigError("a compiled model cannot be trained",
                              fix="train the original model, then compile it again")
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        raise ConfigError("a compiled model stays on its device and in its format",
                          fix="compile again for the other target")

    def __deepcopy__(self, memo: Any) -> Self:
        raise ConfigError("a compiled model cannot be copied",
                          why="torch would repack its weights for whatever engine is current",
                          fix="compile it again, or share this one: it is safe in threads")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ConfigError("a compiled model cannot be pickled",
                          why="a pickle would execute code when it is read",
                          fix="keep the float model and compile again")

    def extra_repr(self) -> str:
        return f"target={self.report.target}, scheme={self.report.scheme}"
