"""`fxq.from_torch_ao`: models that were prepared with torch.ao."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from fxq.analysis.context import Given
from fxq.api.compile import convert
from fxq.compiled import CompiledModel
from fxq.compiler.prepare import (
    make_context,
    prepare_in,
)
from fxq.ir.facts import info, mark_of
from fxq.quantization.schemes import SCHEMES
from fxq.targets import Target


def from_torch_ao(prepared: nn.Module, *, target: str | Target = "fbgemm",
                  example_inputs: tuple[Any, ...] | None = None, strict: bool = False,
                  runtime: str = "auto", verify: bool = True) -> CompiledModel:
    """Compile what `prepare_fx` (after calibration) or `prepare_qat_fx` (after training) gave.

    Scales, zero points and integer weights are those that `convert_fx` would use; what torch.ao
    leaves in float stays in float. `prepared` is left as it is. Raises ConfigError for anything
    else, CalibrationError for an observer that has seen nothing.
    """
    from fxq.frontend.torch_ao import read_prepared  # deprecated upstream: only when it is used

    found = read_prepared(prepared)
    scheme = replace(SCHEMES["int8_static"], correct_bias=False, pair_safe=not found.reduced)
    context = replace(make_context(found.plain, target, scheme, None, None),
                      given=Given(complete=True))
    ready = prepare_in(context, found.plain, example_inputs, None, verify)
    nodes = list(ready.graph_module.graph.nodes)
    formats = {info(n).value: mark for n in nodes if (mark := mark_of(n)) is not None}
    layers = {info(n).value: weight for n in nodes
              if (weight := found.weight_of(info(n).path)) is not None}
    ready.context = replace(context, given=Given(formats, layers, complete=True))
    ready.manager.context = ready.context
    ready.calibration = "observers of torch.ao"
    return convert(ready, strict=strict, runtime=runtime)
