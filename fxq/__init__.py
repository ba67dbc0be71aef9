"""fxq: a compiler that makes CNNs small and fast, and shows what it did.

    compiled = fxq.compile(model, target="fbgemm", scheme="int8_static")

Importing fxq is instant: torch is loaded when a name is first used.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from fxq.version import __version__ as __version__

if TYPE_CHECKING:
    from fxq import plot
    from fxq.api.compile import compile, convert
    from fxq.api.load import load
    from fxq.api.torch_ao import from_torch_ao
    from fxq.compiled import CompiledModel
    from fxq.compiler.calibrate import calibrate
    from fxq.compiler.prepare import Prepared, prepare
    from fxq.compiler.report import Report
    from fxq.errors import (
        ArtifactError,
        BudgetError,
        CalibrationError,
        ConfigError,
        FxqError,
        FxqWarning,
        InputError,
        TargetUnavailableError,
        TraceError,
        UnsupportedOpError,
        VerificationError,
    )
    from fxq.ir.stages import Stage
    from fxq.profiler.compare import compare
    from fxq.profiler.comparison import Comparison
    from fxq.profiler.debug import debug
    from fxq.profiler.diff import diff
    from fxq.profiler.findings import Findings
    from fxq.profiler.forecast import Plan, plan
    from fxq.profiler.profile import Profile
    from fxq.profiler.sensitivity import sensitivity
    from fxq.qat.model import QatModel
    from fxq.qat.parity import Parity, check_parity
    from fxq.qat.preparation import prepare_qat
    from fxq.qat.schedule import FreezeSchedule
    from fxq.quantization.schemes import Scheme
    from fxq.quantization.sqnr import sqnr
    from fxq.quantization.statistics import Statistics
    from fxq.targets import Target


_HOME = {
    "compile": "api.compile", "convert": "api.compile", "load": "api.load",
    "prepare": "compiler.prepare", "calibrate": "compiler.calibrate",
    "Prepared": "compiler.prepare", "CompiledModel": "compiled", "Report": "compiler.report",
    "Scheme": "quantization.schemes", "Stage": "ir.stages",
    "Statistics": "quantization.statistics", "Target": "targets", "sqnr": "quantization.sqnr",
    "prepare_qat": "qat.preparation", "QatModel": "qat.model", "FreezeSchedule": "qat.schedule",
    "check_parity": "qat.parity", "Parity": "qat.parity", "from_torch_ao": "api.torch_ao",
    "compare": "profiler.compare", "Comparison": "profiler.comparison",
    "debug": "profiler.debug", "Findings": "profiler.findings",
    "diff": "profiler.diff", "Profile": "profiler.profile", "plan": "profiler.forecast",
    "Plan": "profiler.forecast", "sensitivity": "profiler.sensitivity", "plot": "plot",
    **dict.fromkeys(("ArtifactError", "BudgetError", "CalibrationError", "ConfigError", "FxqError",
                     "FxqWarning",
                     "InputError",
                     "TargetUnavailableError", "TraceError", "UnsupportedOpError",
                     "VerificationError"), "errors"),
}

__all__ = [
    "ArtifactError", "BudgetError", "CalibrationError", "Comparison", "CompiledModel",
    "ConfigError", "Findings", "FreezeSchedule", "FxqError", "FxqWarning", "InputError",
    "Parity", "Plan", "Prepared", "Profile", "QatModel", "Report", "Scheme", "Stage",
    "Statistics", "Target",
    "TargetUnavailableError", "TraceError", "UnsupportedOpError", "VerificationError",
    "calibrate", "check_parity", "compare", "compile", "convert", "debug", "diff", "from_torch_ao",
    "load", "plan", "plot", "prepare", "prepare_qat", "sensitivity", "sqnr",
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
