"""Memory that was freed, back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`; None where the C library has no such function."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def give_back() -> None:
    """Let the system have the pages that nothing lives on any more.

    Tensors of some megabytes come and go here, and small ones that stay settle between them: glibc
    keeps such holes, several times what lives (measured on ResNet-50, 140 MB for 17 MB). Does
    nothing where the C library is another.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
