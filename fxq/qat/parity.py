"""Does the compiled model compute what training saw? Ask before training is over."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from fxq.compiler.build import built
from fxq.compiler.verify import Integers, step_differences
from fxq.errors import VerificationError
from fxq.frontend.batches import batches
from fxq.ir.facts import info, qparams
from fxq.qat.fake_quantize import FakeQuantize
from fxq.qat.model import QatModel
from fxq.quantization.sqnr import sqnr_of_all
from fxq.system.torch_state import isolated

SQNR_FLOOR = 10.0  # dB between the outputs of training and of the compiled model


@dataclass(frozen=True)
class Parity:
    """How far integer execution is from what training computes, on one batch.

    `worst_step`: largest difference of one operator, in steps of its output, when it is given
    training's own integers. `agreement`: share of equal predictions (the largest output of the
    first one); `sqnr` in dB of all outputs.
    """

    worst_step: int
    where: str
    agreement: float
    sqnr: float
    operators: int

    def __str__(self) -> str:
        return (f"{self.operators} operators within {self.worst_step} step"
                f"{'' if self.worst_step == 1 else 's'}, {100 * self.agreement:.1f} % equal "
                f"predictions, {self.sqnr:.1f} dB")


def check_parity(prepared: QatModel, batch: Any) -> Parity:
    """Convert a copy and compare it with training's forward, operator by operator.

    `prepared` stays as it is. Raises VerificationError that names the first operator whose
    integers differ by more than one step, or when the outputs drift apart altogether.
    """
    with isolated():
        twin = copy.deepcopy(prepared).eval().cpu()
        flat = next(iter(batches([batch], twin.machinery.convention.signature)))
        flat = [x.cpu() for x in flat]
        expected, outputs = _trained_integers(twin, flat)
        executable = built(twin.freeze())[1]
        module = executable.graph_module
        steps = step_differences(module, flat, _by_node(module, expected))
        given = executable.function(*flat)
    first = next(((size, node) for size, node in steps if size > 1), None)
    if first is not None:
        raise VerificationError(
            f"the compiled model differs from training by {first[0]} steps at "
            f"{info(first[1]).value}", where=info(first[1]).source,
            why="its integers are not those that training rounded to",
            fix="freeze batch norms and observers before the end; else please report it")
    worst = max(steps, key=lambda pair: pair[0], default=(0, None))
    result = Parity(worst[0], "" if worst[1] is None else info(worst[1]).value,
                    _agreement(outputs[0], given[0]), sqnr_of_all(outputs, given), len(steps))
    if result.sqnr < SQNR_FLOOR:
        raise VerificationError(f"the compiled model is {result.sqnr:.1f} dB close to training",
                                why="single operators agree, but they add up",
                                fix="keep sensitive layers in float with overrides")
    return result


def _trained_integers(twin: QatModel, flat: list[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The integers of every rounded value in training's forward, and its outputs."""
    captured: dict[str, tuple[str, Tensor]] = {}
    twin.machinery.captured = captured
    with torch.no_grad():
        outputs = list(twin.machinery.function(*flat))
    twin.machinery.captured = None
    found = {}
    for key, (name, value) in captured.items():
        quantizer = twin.quantizers[name]
        if isinstance(quantizer, FakeQuantize):
            scale, zero = quantizer.format()
            found[key] = (torch.round(value / scale) + zero).to(quantizer.spec.dtype)
    return found, outputs


def _by_node(module: fx.GraphModule, expected: dict[str, Tensor]) -> Integers:
    """Training's integers for the last node that makes each value (a clamp may follow it)."""
    last = {info(n).value: n.name for n in module.graph.nodes
            if qparams(n) is not None}
    return {name: expected[key] for key, name in last.items() if key in expected}


def _agreement(a: Tensor, b: Tensor) -> float:
    if a.dim() < 2 or not a.numel():
        return 1.0 if torch.allclose(a, b) else 0.0
    return (a.flatten(1).argmax(1) == b.flatten(1).argmax(1)).double().mean().item()
