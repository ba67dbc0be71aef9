"""Ranges by their effect: each value's scale is the one with which its block errs least.

A rule that looks at one tensor cannot know which of its values matter to the layers behind it, nor
that the values of a residual sum share a format. Here the two ends of a range are moved, one after
the other and in turn, as long as the error of the *block's* output falls (the search of Nagel et
al. 2021, "A White Paper on Neural Network Quantization", section 3.1, with the loss of BRECQ, Li
et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.fx import Node

from fxq.analysis.value_formats import fixed_format, format_groups, value_spec
from fxq.ir.facts import info
from fxq.quantization.formats import QParams
from fxq.reconstruction.simulation import Simulation
from fxq.reconstruction.work import Work, error_of

STEP = 1.12  # about 1 dB of rounding noise
MOST = 6  # steps in one direction: twice or half of the range
HANDFULS = 2


def choose_ranges(work: Work) -> None:
    """Decide the formats of the values that a block is the first to read."""
    samples = list(work.samples(HANDFULS))

    def error(members: list[Node], format_: QParams) -> float:
        work.simulation.set_format(members, format_)
        return sum(float(error_of(work.simulation.rounded(work.block, rounded), targets))
                   for _, rounded, targets in samples)

    for members in _open_groups(work):
        best = _search(members, work.simulation, error)
        work.simulation.set_format(members, best)


def _open_groups(work: Work) -> Iterator[list[Node]]:
    """Groups of values that the block reads, and that nothing has decided yet."""
    simulation = work.simulation
    read = {n for node in work.block.nodes for n in node.all_input_nodes}
    for members in format_groups(simulation.module, simulation.placement):
        spec = value_spec(members, simulation.placement, simulation.context.scheme)
        decided = info(members[0]).value in simulation.decided.formats
        if read & set(members) and not decided and fixed_format(members, spec) is None:
            yield members


def _search(members: list[Node], simulation: Simulation,
            error: Callable[[list[Node], QParams], float]) -> QParams:
    """Widen or narrow one end of the range after the other, while the block's error falls."""
    spec = value_spec(members, simulation.placement, simulation.context.scheme)
    best = simulation.values[members[0]]
    low, high = best.bounds()
    least = error(members, best)
    for ends in ((1, 0), (0, 1)) if low < 0 and not spec.symmetric else ((1, 1),):
        for factor in (STEP, 1 / STEP):
            for _ in range(MOST):
                range_ = (low * factor ** ends[1], high * factor ** ends[0])
                tried = spec.qparams(*range_)
                found = error(members, tried)
                if found >= least:
                    break
                (low, high), best, least = range_, tried, found
    return best
