"""One way through the graph, block by block: each step sees what the compiled model will see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor, fx
from torch.fx import Node

from fxq.analysis.context import Context, Given
from fxq.errors import CalibrationError, ConfigError
from fxq.reconstruction.activations import Activations, Store
from fxq.reconstruction.bias import correct_biases
from fxq.reconstruction.blocks import Block, cut
from fxq.reconstruction.checkpoints import Checkpoints
from fxq.reconstruction.ranges import choose_ranges
from fxq.reconstruction.rounding import learn_rounding
from fxq.reconstruction.simulation import simulate
from fxq.reconstruction.work import DEFAULT, Learning, Work
from fxq.system.torch_state import isolated

Step = Callable[[Work], None]
STEPS: Mapping[str, Step] = {  # in the order in which they run on each block
    "ranges": choose_ranges,
    "rounding": learn_rounding,
    "bias": correct_biases,
}


def reconstruct(observed: fx.GraphModule, context: Context, batches: Iterable[list[Tensor]],
                learning: Learning = DEFAULT) -> Given:
    """What the scheme's steps decide for an OBSERVED graph, from flat inputs.

    `context` holds the statistics. Raises ConfigError for steps that do not exist,
    CalibrationError for no batches, ArtifactError for checkpoints of other work.
    """
    steps = steps_of(context)
    with isolated(), Store(learning.memory) as store:
        simulation = simulate(observed, context)
        inputs = [n for n in simulation.module.graph.nodes if n.op == "placeholder"]
        start = [dict(zip(inputs, map(store.keep, flat), strict=True)) for flat in batches]
        if not start:
            raise no_batches(context)
        exact, rounded = Activations(store, start), Activations(store, [dict(b) for b in start])
        blocks = cut(simulation.module)
        kept = Checkpoints(learning.checkpoints, simulation, start, learning)
        for index, (block, dead) in enumerate(zip(blocks, _dead(blocks), strict=True)):
            targets = exact.run(block, simulation.exact)
            work = Work(block, simulation, exact.inputs_of(block), rounded.inputs_of(block),
                        targets, index, learning)
            if not kept.restore(block, index):
                for step in steps:
                    step(work)
                kept.write(block, index)
            rounded.advance(rounded.run(block, simulation.rounded), dead)
            exact.advance(targets, dead)
            if learning.progress:
                learning.progress(index + 1, len(blocks))
        return simulation.decided


def steps_of(context: Context) -> list[Step]:
    """The functions behind the scheme's names, in the table's order."""
    asked = context.scheme.reconstruction
    unknown = [name for name in asked if name not in STEPS]
    if unknown:
        raise ConfigError(f"reconstruction={asked!r} names no step {unknown[0]!r}",
                          fix=f"there are {', '.join(STEPS)}")
    return [step for name, step in STEPS.items() if name in asked]


def no_batches(context: Context) -> CalibrationError:
    """The error of a scheme that needs batches where there are none."""
    names = ", ".join(context.scheme.reconstruction)
    return CalibrationError(
        f"scheme {context.scheme.name!r} has no batches to learn from",
        why=f"its reconstruction ({names}) runs the calibration images again; statistics alone "
            "do not hold them",
        fix="pass calibration_data= to fxq.compile, or batches= to fxq.convert")


def _dead(blocks: list[Block]) -> Iterator[list[Node]]:
    """Behind each block, the values that no later one reads."""
    last: dict[Node, int] = {}
    for index, block in enumerate(blocks):
        last |= dict.fromkeys((*block.outputs, *block.inputs), index)
    for index in range(len(blocks)):
        yield [n for n, i in last.items() if i == index]
