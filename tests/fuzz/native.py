"""What must hold for the native engine: the bits of the LOWERED graph, however it is run."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

import fxq
from fxq.kernels.native.library import ISAS, isa, isas
from fxq.kernels.native.structs import VARIANTS
from fxq.runtime.native.program import Planned, Segment
from fxq.runtime.native.run import read_batch_from_input
from fxq.runtime.native.segments import parts_of, with_calls
from fxq.runtime.python import build
from tests.fuzz.native_nets import NativeNet

SHAPES = 3  # that each model is run with
ODD = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e-40, -1e-45, 1e38, -0.0])


class Twice(Segment):
    """Runs as a program and in torch; the bits must be the same. `reasons` are of what cannot run.

    It gives torch's result: a float function behind it may have other last bits for other strides.
    """

    reasons: list[str] = []

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        wanted = self._in_torch(*tensors)
        self.programs.clear()  # one made before is for another instruction set
        compare(wanted, super().__call__(*tensors))
        self.reasons += [self.reason] if self.reason else []
        return wanted

    def link(self, tensors: Sequence[Tensor]) -> Planned:
        """Every other program has steps of all variants."""
        linked = super().link(tensors)
        draw = random.Random(linked.digest)
        if draw.random() < 0.5:
            linked.program = linked.link(draw.choices(list(VARIANTS), k=len(linked.plan.steps)))
        return linked


class Checked:
    """A compiled model whose programs all run twice."""

    def __init__(self, compiled: fxq.CompiledModel) -> None:
        module = compiled.graph_module
        read_batch_from_input(module.graph)
        parts = parts_of(module.graph)
        self.takes = compiled._takes
        self.expected, self.programs = build(module), [Twice(module, part) for part in parts]
        self.function = build(with_calls(module, parts, self.programs))
        self.steps = sum(len(part.nodes) for part in parts)

    def __call__(self, *inputs: Tensor) -> None:
        """Raises AssertionError for the first wrong value."""
        self.takes(inputs)  # the checks inside a graph are for the call at hand
        with torch.no_grad():
            compare(self.expected(*inputs), self.function(*inputs))


def check_native(seed: int) -> dict[str, int]:
    """One model; how much of it ran where. Raises AssertionError for the first wrong value."""
    model, draw = NativeNet(seed), random.Random(seed)
    compiled, runs = compiled_net(model, seed), 0
    checked = Checked(compiled)
    for inputs in shapes(model, draw):
        if not takes(compiled, inputs):
            continue
        how = draw_setting(draw)
        try:
            with setting(*how):
                checked(*inputs)
        except AssertionError as error:
            lies = [(tuple(x.shape), x.stride()) for x in inputs]
            raise AssertionError(f"seed {seed}, {how}, {lies}: {error}") from None
        runs += 1
    return {"models": 1, "runs": runs, "programs": len(checked.programs) * runs,
            "steps": checked.steps * runs}


def compiled_net(model: NativeNet, seed: int = 0) -> fxq.CompiledModel:
    """Calibrated on the inputs that it was drawn with; linear layers may measure theirs."""
    dynamic = {"linear": "int8_dynamic"} if seed % 4 == 3 else {}
    data = tuple(model.inputs) if len(model.inputs) > 1 else model.inputs[0]
    return fxq.compile(model, target="native", example_inputs=tuple(model.inputs), verify=False,
                       calibration_data=[data], runtime="python", overrides=dynamic)


def segments_of(function) -> list[Segment]:
    """The programs behind a function that `build_native` made."""
    if isinstance(function, Segment):
        return [function]
    return [c.cell_contents for c in function.__closure__ or ()
            if isinstance(c.cell_contents, Segment)]


def takes(compiled: fxq.CompiledModel, inputs: list[Tensor]) -> bool:
    try:
        return compiled._takes(inputs) is None
    except fxq.InputError:
        return False


def shapes(model: NativeNet, draw: random.Random) -> Iterator[list[Tensor]]:
    """Inputs of other batches, other sizes, other strides and strange numbers."""
    for index in range(SHAPES):
        batch = draw.choice((1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 33))
        grown = [draw.choice((0, 0, 1, 2, 5)) if index else 0 for _ in range(2)]
        yield [numbers(x, batch, grown, draw) for x in model.inputs]


def numbers(x: Tensor, batch: int, grown: list[int], draw: random.Random) -> Tensor:
    """Values of up to twice the calibrated range; some hold what is no ordinary number."""
    shape = [batch, x.shape[1], *(n + g for n, g in zip(x.shape[2:], grown, strict=False))]
    made = torch.randn(shape) * draw.choice((0.5, 1, 2))
    if draw.random() < 0.2:
        made.view(-1)[torch.randint(made.numel(), (8,))] = ODD[torch.randint(len(ODD), (8,))]
    return strided(made, draw.randrange(7))


def strided(x: Tensor, kind: int) -> Tensor:
    """The same numbers, laid out in another way."""
    if kind == 1 and x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if kind == 2:
        return torch.stack([x, x], -1)[..., 0]
    if kind == 3:
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == 4:
        return torch.cat([x, x])[x.shape[0]:]
    if kind == 5:
        return x[:1].expand(x.shape)
    return x


def draw_setting(draw: random.Random) -> tuple[str, bool, int]:
    """One instruction set of this processor, byte permutes or none, and a number of threads."""
    most = ISAS.index(os.environ.get("FXQ_FUZZ_ISA", isa()))
    here = [name for name in isas() if ISAS.index(name) <= most]
    return draw.choice(here), draw.random() < 0.7, draw.choice((1, 1, 1, 2, 2, 3, 5, 8))


@contextmanager
def setting(name: str, vbmi: bool, threads: int) -> Iterator[None]:
    """Programs made inside are for this instruction set; calls inside use so many threads."""
    before, number = os.environ.copy(), torch.get_num_threads()
    os.environ |= {"FXQ_NATIVE_ISA": name, "FXQ_NATIVE_VBMI": str(int(vbmi))}
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(number)
        for key in ("FXQ_NATIVE_ISA", "FXQ_NATIVE_VBMI"):
            os.environ.pop(key)
        os.environ |= before


def compare(wanted, found) -> None:
    """Every bit, the signs of zero and of NaN too."""
    for place, (a, b) in enumerate(zip(wanted, found, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype, (f"output {place} is {b.dtype} {tuple(b.shape)}, "
                                                            f"not {tuple(a.shape)}")
        wrong = bits(a) != bits(b)
        if wrong.any():
            raise AssertionError(f"output {place} {tuple(a.shape)}: {int(wrong.sum())} wrong, the "
                                 f"first at {wrong.nonzero()[0].tolist()}")


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32) if x.dtype is torch.float32 else x
