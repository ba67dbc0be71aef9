"""What a user gets: a module that is called like the model it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, fx, nn

from fxq.artifact.check import check_of
from fxq.errors import ArtifactError, ConfigError, VerificationError, did_you_mean
from fxq.frontend.convention import Convention
from fxq.ir.stage import Stage
from fxq.runtime.executable import Entry
from fxq.system.once import Once, made
from fxq.system.torch_state import isolated

if TYPE_CHECKING:  # a loaded model runs without them
    from fxq.artifact.write import Content
    from fxq.budget.search import Point
    from fxq.compiler.report import Report
    from fxq.profiler.profile import Profile
    from fxq.runtime.shape_program import Outcome

Text = str | Callable[[], str]  # of a stage, or what writes it once somebody reads it


@dataclass(frozen=True)
class Insides:
    """What tools look at, and a call does not need."""

    graph_module: fx.GraphModule
    content: Content
    texts: Mapping[Stage, Text]


class CompiledModel(nn.Module):
    """A compiled model: same signature, same output structure, inference only.

    `report` says what was done; `graph_text(stage)` is the canonical text of a stage;
    `size_bytes` counts all parameters as they are kept (int8 weights, float32 scales, biases).
    Integers have no NaN: an input's NaN becomes the largest number, infinities the ends of the
    range. With `check_finite` such inputs raise VerificationError instead. `pareto` are the
    assignments that a budget has looked at, fastest first; empty without one.
    """

    def __init__(self, entry: Entry, convention: Convention, report: Once[Report],
                 insides: Once[Insides], check_finite: bool = False) -> None:
        super().__init__()
        self._function: Callable[..., Any]
        object.__setattr__(self, "_function", entry.function)  # never a submodule
        self._takes, self._guard, self._bare = entry.takes, entry.guard, entry.bare
        self._convention, self._signature = convention, convention.signature
        self._single, self.check_finite = convention.single, check_finite
        self._report, self._insides = report, insides
        self.pareto: tuple[Point, ...] = ()
        super().train(False)

    @property
    def graph_module(self) -> fx.GraphModule:
        """The graph that runs, or the one that a file's program was made from."""
        return self._insides().graph_module

    @property
    def report(self) -> Report:
        return self._report()

    @report.setter
    def report(self, report: Report) -> None:
        self._report = made(report)

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
        names = {str(s): text for s, text in self._insides().texts.items()}
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
        from fxq.artifact.write import inputs_of, save  # large, and not needed to run a model
        from fxq.runtime.native.run import program_of  # as above

        content = self._insides().content
        takes = inputs_of(self.graph_module, content.ranges)
        if self._runs_elsewhere():
            check: dict[str, Any] = {}
        else:
            with isolated():
                check = check_of(lambda *x: self._flat(list(x)), takes)
        program = program_of(self.graph_module) if content.engine == "native" else None
        save(Path(path), content, self._convention, self.report.to_dict(), check, program)

    def export(self, path: str | Path) -> None:
        """Write what the model means for other runtimes: an `.onnx` file in QDQ form, opset 21.

        Each format is a QuantizeLinear and a DequantizeLinear, each operator the float one between
        them. The same model gives the same bytes. Raises ConfigError for another ending, without
        `onnx` (`pip install fxq[onnx]`), or for a place that cannot be written;
        UnsupportedOpError, with a list, for operators that ONNX cannot say.
        """
        from fxq.export.onnx_file import export_onnx  # large, and not needed to run a model

        content, report = self._insides().content, self.report
        if isinstance(content.portable, ArtifactError):
            raise content.portable
        export_onnx(Path(path), content.portable, self._signature.names,
                    {"target": report.target, "scheme": report.scheme})

    def _runs_elsewhere(self) -> bool:
        """It is for a device whose bits differ from one to the next, or that is not here."""
        from fxq.targets import TARGETS  # it imports the operators

        known = TARGETS.get(self.report.target)  # a user's own literal is not registered
        return known is not None and known.device != "cpu"

    def float_graph(self, *, activations_only: bool = False) -> fx.GraphModule:
        """The float graph that the integers stand for: flat inputs, a tuple of flat outputs.

        Its weights are the dequantized ones; values saturate as the integers do, or, with
        `activations_only`, only where that replaces an activation. Raises ArtifactError for a
        graph whose arguments are no data.
        """
        from fxq.artifact.float_graph import float_graph  # large, and not needed to run a model

        portable = self._insides().content.portable
        if isinstance(portable, ArtifactError):
            raise portable
        return float_graph(portable, activations_only=activations_only)

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
        from fxq.runtime.python import build  # large, and rarely needed
        from fxq.runtime.shape_program import UNKNOWN  # as above

        if all(v is not UNKNOWN and not (isinstance(v, Tensor) and v.numel())
               for v in empty.outputs):
            return tuple(torch.empty(v.shape, dtype=v.dtype, device=inputs[0].device)
                         if isinstance(v, Tensor) else v for v in empty.outputs)
        if isinstance(self._insides().content.portable, ArtifactError):
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
