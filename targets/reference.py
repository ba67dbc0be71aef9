"""reference: the integer arithmetic of `fxq.ir.arithmetic` itself, on any device that torch has.

Its table is native's: the same operators take integers, in the same formats, so that it computes
what `native` computes, bit for bit. Besides it runs formats of any width.
"""

from __future__ import annotations

from dataclasses import replace

from fxq.targets.native import NATIVE

REFERENCE = replace(
    NATIVE,
    name="reference",
    summary="plain integer tensors: the meaning of a compiled model",
    engine=None,
    refused_modes={},
)
