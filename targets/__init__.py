"""Targets: one literal per file, one line here; other packages add theirs as entry points."""

from __future__ import annotations

from collections.abc import Mapping

from fxq.errors import ConfigError, TargetUnavailableError, did_you_mean
from fxq.frontend.operators import load_operators
from fxq.kernels.native.library import isa
from fxq.quantization.schemes import Scheme
from fxq.system import plugins
from fxq.targets.base import Kernel, Limit, Pairing, Target
from fxq.targets.cuda_fp16 import CUDA_FP16
from fxq.targets.fbgemm import FBGEMM
from fxq.targets.native import NATIVE
from fxq.targets.qnnpack import QNNPACK
from fxq.targets.reference import REFERENCE
from fxq.targets.x86 import X86

TARGETS: Mapping[str, Target] = {
    t.name: t for t in (NATIVE, FBGEMM, X86, QNNPACK, CUDA_FP16, REFERENCE)}
AUTO = "auto"
_PREFERENCE = (CUDA_FP16, NATIVE, X86, FBGEMM, QNNPACK, REFERENCE)  # fastest first


def get_target(target: str | Target) -> Target:
    """Look a target up by name; raises ConfigError with the legal names."""
    if isinstance(target, Target):
        return target
    if target in TARGETS:
        return TARGETS[target]
    if target in plugins.plugins(plugins.TARGETS):
        load_operators()  # its rows may name them
    plugin = plugins.load_plugin(plugins.TARGETS, target, Target, (*TARGETS, AUTO))
    if plugin is not None:
        return plugin
    raise ConfigError(f"unknown target {target!r}",
                      fix=did_you_mean(target, [*target_names(), AUTO]))


def known_target(name: str) -> Target | None:
    """A target that needs no import: fxq's own, or a plugin that was asked for before."""
    return TARGETS.get(name) or plugins.known(plugins.TARGETS, name, Target)


def target_names() -> tuple[str, ...]:
    """All names that `get_target` knows, those of installed plugins included."""
    return (*TARGETS, *plugins.plugins(plugins.TARGETS))


def best_target(scheme: Scheme) -> Target:
    """The fastest target of this machine that runs the scheme."""
    for target in _PREFERENCE:
        if target.is_available() and target.is_fast and target.why_not_scheme(scheme) is None:
            return target
    raise TargetUnavailableError(f"no target of this machine runs scheme {scheme.name!r}")


def availability(target: Target) -> str:
    """ "yes", with the instruction set of fxq's own kernels, or "no" with what is missing."""
    missing = target.why_not_here()
    if missing:
        return f"no: {missing}"
    return f"yes: {isa()}" if target.engine == "native" else "yes"


__all__ = ["AUTO", "TARGETS", "Kernel", "Limit", "Pairing", "Target",
           "availability", "best_target", "get_target", "known_target", "target_names"]
