"""How large the values of a file's graph, or of its program, may be."""

from __future__ import annotations

LARGEST_INPUT = 1 << 27  # elements, of all inputs
LARGEST_RESULT = 256 << 20  # bytes, or
LARGEST_RATIO = 64  # times the largest input
LARGEST_SUM = 4  # times that: all values that are alive at once


def most_bytes(largest_input: int) -> int:
    """Of one result, where the largest input has so many bytes."""
    return max(LARGEST_RESULT, LARGEST_RATIO * largest_input)
