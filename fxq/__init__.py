"""fxq: a compiler that makes CNNs small and fast, and shows what it did.

    compiled = fxq.compile(model, target="fbgemm", scheme="int8_static")

Importing fxq is instant: torch is loaded when a name is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxq import plot
    from fxq.artifact.load import load
    from fxq.compiled import CompiledModel
    from fxq.compiler import compile, convert
    from fxq.distance import FxqWarning
    from fxq.errors import (
        ArtifactError,
        CalibrationError,
        ConfigError,
        FxqError,
        TargetUnavailableError,
        TraceError,
        UnsupportedOpError,
        VerificationError,
    )
    from fxq.metrics import sqnr
    from fxq.planning import Plan, plan
    from fxq.preparation import Prepared, calibrate, prepare
    from fxq.profiler.compare import Comparison, compare
    from fxq.profiler.diff import diff
    from fxq.profiler.profile import Profile
    from fxq.qat.model import QatModel
    from fxq.qat.parity import Parity, check_parity
    from fxq.qat.preparation import prepare_qat
    from fxq.qat.schedule import FreezeSchedule
    from fxq.report import Report
    from fxq.scheme import Scheme
    from fxq.sensitivity import sensitivity
    from fxq.stage import Stage
    from fxq.statistics import Statistics
    from fxq.targets import Target
    from fxq.torch_ao import from_torch_ao

__version__ = "0.1.0"

_HOME = {
    "compile": "compiler", "convert": "compiler",
    "prepare": "preparation", "calibrate": "preparation",
    "Prepared": "preparation", "FxqWarning": "distance", "CompiledModel": "compiled",
    "Report": "report", "Scheme": "scheme", "Stage": "stage", "Statistics": "statistics",
    "Target": "targets", "sqnr": "metrics", "prepare_qat": "qat.preparation",
    "QatModel": "qat.model", "FreezeSchedule": "qat.schedule", "check_parity": "qat.parity",
    "Parity": "qat.parity", "from_torch_ao": "torch_ao",
    "load": "artifact.load", "compare": "profiler.compare", "Comparison": "profiler.compare",
    "diff": "profiler.diff", "Profile": "profiler.profile", "plan": "planning", "Plan": "planning",
    "sensitivity": "sensitivity", "plot": "plot",
    **dict.fromkeys(("ArtifactError", "CalibrationError", "ConfigError", "FxqError",
                     "TargetUnavailableError", "TraceError", "UnsupportedOpError",
                     "VerificationError"), "errors"),
}

__all__ = [
    "ArtifactError", "CalibrationError", "Comparison", "CompiledModel", "ConfigError",
    "FreezeSchedule", "FxqError", "FxqWarning", "Parity", "Plan", "Prepared", "Profile",
    "QatModel", "Report", "Scheme", "Stage", "Statistics", "Target", "TargetUnavailableError",
    "TraceError", "UnsupportedOpError", "VerificationError", "calibrate", "check_parity",
    "compare", "compile", "convert", "diff", "from_torch_ao", "load", "plan", "plot", "prepare",
    "prepare_qat", "sensitivity", "sqnr",
]

logging.getLogger("fxq").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fxq' has no attribute {name!r}")
    module = importlib.import_module(f"fxq.{_HOME[name]}")
    value = getattr(module, name, module)  # `plot` is a module itself
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
