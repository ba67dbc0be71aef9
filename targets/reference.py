"""reference: the REFERENCE graph executed as it is, on any device that torch has.

Its table is FBGEMM's: the same operators take integers, the same formats, the same constraints,
so that it computes what `fbgemm` computes, within one step per operator.
"""

from __future__ import annotations

from dataclasses import replace

from fxq.targets.fbgemm import FBGEMM

REFERENCE = replace(
    FBGEMM,
    name="reference",
    summary="plain integer tensors and float arithmetic: the meaning of a compiled model",
    engine=None,
    refused_modes={},
)
