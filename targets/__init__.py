"""Targets: one literal a file, one line here."""

from __future__ import annotations

from collections.abc import Mapping

from fxq.errors import ConfigError, did_you_mean
from fxq.targets.base import Kernel, Limit, Pairing, Target
from fxq.targets.fbgemm import FBGEMM
from fxq.targets.qnnpack import QNNPACK
from fxq.targets.reference import REFERENCE
from fxq.targets.x86 import X86

TARGETS: Mapping[str, Target] = {t.name: t for t in (FBGEMM, X86, QNNPACK, REFERENCE)}


def get_target(target: str | Target) -> Target:
    """Look a target up by name; raises ConfigError with the legal names."""
    if isinstance(target, Target):
        return target
    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}", fix=did_you_mean(target, TARGETS))
    return TARGETS[target]


__all__ = ["TARGETS", "Kernel", "Limit", "Pairing", "Target", "get_target"]
