"""What a user gets: a module that is called like the model it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, fx, nn

from fxq.artifact.check import check_of
from fxq.artifact.float_graph import float_graph
from fxq.artifact.write import Content, inputs_of, save
from fxq.compiler.report import Report
from fxq.errors import ArtifactError, ConfigError, VerificationError, did_you_mean
from fxq.frontend.convention import Convention
from fxq.ir.stages import Stage
from fxq.runtime.executable import Executable
from fxq.runtime.python import Function, build
from fxq.runtime.shape_program import UNKNOWN, Outcome
from fxq.system.torch_state import isolated
from fxq.targets import TARGETS

if TYPE_CHECKING:
    from fxq.profiler.profile import Profile

Text = str | Callable[[], str]  # of a stage, or what writes it once somebody reads it


class CompiledModel(nn.Module):
    """A compiled model: same signature, same output structure, inference only.

    `report` says what was done; `graph_text(stage)` is the canonical text of a stage;
    `size_bytes` counts all parameters as they are kept (int8 weights, float32 scales, biases).
    Integers have no NaN: an input's NaN becomes the largest number, infinities the ends of the
    range. With `check_finite` such inputs raise VerificationError instead.
    """

    graph_module: fx.GraphModule

    def __init__(self, executable: Executable, convention: Convention, content: Content,
                 report: Report, texts: Mapping[Stage, Text], check_finite: bool = False) -> None:
        super().__init__()
        self._function: Function
        object.__setattr__(self, "graph_module", executable.graph_module)
        object.__setattr__(self, "_function", executable.function)  # never a submodule
        self._takes, self._guard = executable.takes, executable.guard
        self._bare = executable.bare
        self._convention, self._signature = convention, convention.signature
        self._single, self._content = convention.single, content
        self._texts, self.report, self.check_finite = dict(texts), report, check_finite
        super().train(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        inputs = self._signature.tensors(args, kwargs)
        empty = self._takes(inputs)
        if self.check_finite:
            self._refuse_not_finite(inputs)
        needs_engine = self._guard is not None and self._guard.is_needed()
        if empty is not None:
            outputs = self._without_elements(inputs, empty)
        elif self._bare:
            outputs = self._function(*inputs)
        elif needs_engine or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            outputs = self._call_shielded(inputs, needs_engine)
        else:
            outputs = self._function(*inputs)
        return outputs[0] if self._single else self._convention.outputs(iter(outputs))

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
        text = names[str(stage).upper()]
        return text if isinstance(text, str) else text()

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Measure every node on these inputs: time beside float, bytes, MACs, SQNR.

        See `fxq.profiler.profile.profile` for its options.
        """
        from fxq.profiler.profile import profile  # large, and not needed to run a model

        return profile(self, *args, **kwargs)

    def save(self, path: str | Path) -> None:
        """Write a `.fxq` file: integer weights, the graph as data, a manifest; no code.

        The same model gives the same bytes. Raises ArtifactError for a graph that holds code of
        the model's own, ConfigError for a place that cannot be written.
        """
        takes = inputs_of(self.graph_module, self._content.ranges)
        if self._runs_elsewhere():
            check: dict[str, Any] = {}
        else:
            with isolated():
                check = check_of(lambda *x: self._flat(list(x)), takes)
        save(Path(path), self._content, self._convention, self.report.to_dict(), check)

    def _runs_elsewhere(self) -> bool:
        """It is for a device whose bits differ from one to the next, or that is not here."""
        known = TARGETS.get(self.report.target)  # a user's own literal is not registered
        return known is not None and known.device != "cpu"

    def float_graph(self, *, activations_only: bool = False) -> fx.GraphModule:
        """The float graph that the integers stand for: flat inputs, a tuple of flat outputs.

        Its weights are the dequantized ones; values saturate as the integers do, or, with
        `activations_only`, only where that replaces an activation. Raises ArtifactError for a
        graph whose arguments are no data.
        """
        if isinstance(self._content.portable, ArtifactError):
            raise self._content.portable
        return float_graph(self._content.portable, activations_only=activations_only)

    def _flat(self, inputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The flat outputs for flat inputs, under the right engine."""
        empty = self._takes(inputs)
        if empty is not None:
            return self._without_elements(inputs, empty)
        return self._call_shielded(inputs, self._guard is not None and self._guard.is_needed())

    def _without_elements(self, inputs: list[Tensor], empty: Outcome) -> tuple[Any, ...]:
        """The outputs for inputs like an empty batch, which no kernel needs to see.

        What float makes of nothing at all (the mean of no elements) is asked of float.
        """
        if all(v is not UNKNOWN and not (isinstance(v, Tensor) and v.numel())
               for v in empty.outputs):
            return tuple(torch.empty(v.shape, dtype=v.dtype, device=inputs[0].device)
                         if isinstance(v, Tensor) else v for v in empty.outputs)
        if isinstance(self._content.portable, ArtifactError):
            return self._call_shielded(inputs, self._guard is not None)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            outputs: tuple[Any, ...] = build(self.float_graph())(*inputs)
            return outputs

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
                          fix="save it with .save(path) and read it with fxq.load(path)")

    def extra_repr(self) -> str:
        return f"target={self.report.target}, scheme={self.report.scheme}"
