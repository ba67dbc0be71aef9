"""The names of the stages."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """FLOAT → NORMAL → FUSED → OBSERVED → REFERENCE → LOWERED."""

    FLOAT = "FLOAT"
    NORMAL = "NORMAL"
    FUSED = "FUSED"
    OBSERVED = "OBSERVED"
    REFERENCE = "REFERENCE"
    LOWERED = "LOWERED"
