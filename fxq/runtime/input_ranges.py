"""What sizes a graph takes, in words: found by asking its shape program, only for messages."""

from __future__ import annotations

import math
from collections.abc import Callable

from fxq.runtime.shape_program import ShapeProgram

_STEPS = (1, 2, 3, 4, 6, 8, 16, 32, 64)


def describe(program: ShapeProgram) -> list[str]:
    """For each input its dtype and, one dimension at a time, the sizes beside the example's."""
    texts = []
    for place, (shape, dtype) in enumerate(program.inputs):
        sizes = [_sizes(shape[d], _asked(program, place, d)) for d in range(len(shape))]
        texts.append(f"{str(dtype).removeprefix('torch.')} [{', '.join(sizes)}]")
    return texts


def _asked(program: ShapeProgram, place: int, dim: int) -> Callable[[int], bool]:
    example = [shape for shape, _ in program.inputs]

    def accepts(size: int) -> bool:
        shape = (*example[place][:dim], size, *example[place][dim + 1:])
        return program.accepts([*example[:place], shape, *example[place + 1:]])

    return accepts


def _sizes(example: int, accepts: Callable[[int], bool]) -> str:
    """`any`, `3`, `1 or 3`, `224 to 239`, `at least 7`, `a multiple of 32 from 64 on`."""
    taken = [s for s in _STEPS if accepts(example + s)]
    below = [s for s in _STEPS if example > s and accepts(example - s)]
    if not taken and not below:
        return f"1 or {example}" if example > 1 and accepts(1) else str(example)
    step = math.gcd(*taken, *below)
    least = _least(example, step, accepts)
    if not taken or any(s % step == 0 and s not in taken for s in _STEPS):
        most = example + step * next(n for n in range(max(_STEPS) + 1)
                                     if not accepts(example + step * (n + 1)))
        return f"{least} to {most}" + (f" in steps of {step}" if step > 1 else "")
    if step == 1:
        return "any" if least <= 1 else f"at least {least}"
    kind = f"a multiple of {step}" if example % step == 0 else f"{example % step} more than a " \
        f"multiple of {step}"
    return kind if least <= step else f"{kind} from {least} on"


def _least(example: int, step: int, accepts: Callable[[int], bool]) -> int:
    """The smallest size in steps below the example that is taken, all between being taken."""
    low, high = 0, (example - 1) // step  # steps down: `low` is taken
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if accepts(example - middle * step) else (low, middle - 1)
    return example - low * step


__all__ = ["describe"]
