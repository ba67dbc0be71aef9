"""Targets: one literal a file, one line here; other packages add theirs as entry points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from fxq.errors import ConfigError, TargetUnavailableError, did_you_mean
from fxq.quantization.schemes import Scheme
from fxq.targets.base import Kernel, Limit, Pairing, Target
from fxq.targets.cuda_fp16 import CUDA_FP16
from fxq.targets.fbgemm import FBGEMM
from fxq.targets.qnnpack import QNNPACK
from fxq.targets.reference import REFERENCE
from fxq.targets.x86 import X86

TARGETS: Mapping[str, Target] = {
    t.name: t for t in (FBGEMM, X86, QNNPACK, CUDA_FP16, REFERENCE)}
ENTRY_POINTS = "fxq.targets"  # the group under which other packages name their Target
AUTO = "auto"
_PREFERENCE = (CUDA_FP16, X86, FBGEMM, QNNPACK, REFERENCE)  # fastest first


def get_target(target: str | Target) -> Target:
    """Look a target up by name; raises ConfigError with the legal names."""
    if isinstance(target, Target):
        return target
    if target in TARGETS:
        return TARGETS[target]
    if target in (others := _others()):
        return others[target]
    raise ConfigError(f"unknown target {target!r}",
                      fix=did_you_mean(target, [*TARGETS, *others, AUTO]))


def best_target(scheme: Scheme) -> Target:
    """The fastest target of this machine that runs the scheme."""
    for target in _PREFERENCE:
        if target.is_available() and target.why_not_scheme(scheme) is None:
            return target
    raise TargetUnavailableError(f"no target of this machine runs scheme {scheme.name!r}")


def availability(target: Target) -> str:
    """ "yes", or "no" with what this machine lacks."""
    missing = target.why_not_here()
    return f"no: {missing}" if missing else "yes"


@cache
def _others() -> dict[str, Target]:
    found = {}
    for point in entry_points(group=ENTRY_POINTS):
        target = point.load()
        if not isinstance(target, Target):
            raise ConfigError(f"entry point {point.name!r} of {ENTRY_POINTS} is no Target",
                              why=f"{point.value} is a {type(target).__name__}",
                              fix="point it at a fxq.targets.Target")
        found[target.name] = target
    return found


__all__ = ["AUTO", "ENTRY_POINTS", "TARGETS", "Kernel", "Limit", "Pairing", "Target",
           "availability", "best_target", "get_target"]
