"""The native engine: whole programs on fxq's own int8 kernels, in one call from Python."""

from __future__ import annotations


def why_not() -> str:
    """Why native programs cannot run here, as one sentence; empty where they can."""
    from fxq.kernels.native import library  # torch is heavy, and build.py does without it

    return library.why_not()
