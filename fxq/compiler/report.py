"""What a compilation did, as frozen values that print as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fxq.artifact.manifest import fits
from fxq.errors import ArtifactError
from fxq.ir.rewriter import Refusal, Rewrite
from fxq.kernels.lookup_tables import Choice
from fxq.runtime.decision import RuntimeChoice


@dataclass(frozen=True)
class PassRecord:
    """One pass: its effect, rewrites, refusals, milliseconds, operator counts and SQNR."""

    name: str
    effect: str
    rewrites: tuple[Rewrite, ...]
    refusals: tuple[Refusal, ...]
    changes: tuple[tuple[str, int], ...]
    sqnr: float | None  # dB against the graph before the pass
    choices: tuple[Choice, ...] = ()  # what the cost table decided
    milliseconds: float = 0.0
    check_milliseconds: float = 0.0  # of what holds the pass to its word

    def row(self) -> tuple[str, ...]:
        changes = sorted(self.changes, key=lambda c: (-abs(c[1]), c[0]))
        text = ", ".join(f"{op} {n:+d}" for op, n in changes[:3]) + (
            f", … {len(changes) - 3} more" if len(changes) > 3 else "")
        return (self.name, str(len(self.rewrites) or "-"), str(len(self.refusals) or "-"),
                f"{self.milliseconds:.1f}", f"{self.check_milliseconds:.1f}",
                _decibel(self.sqnr), text)


# Where weights come from, as a reader must know it; whatever else a file says is not shown.
WEIGHTS = {"random": "RANDOM, nobody gave any: accuracy and SQNR say nothing about a trained model",
           "pretrained": "the library's own", "file": "from a file"}


def _table(rows: Sequence[Sequence[Any]], **options: Any) -> str:
    from tabulate import tabulate  # slow to import, and a loaded model prints no report

    return str(tabulate(rows, **options))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _decibel(value: float | None) -> str:
    if value is None:
        return ""
    return "equal" if value == float("inf") else f"{value:.1f} dB"


@dataclass(frozen=True)
class Report:
    """The whole story of one compilation.

    `macs` and `integer_macs` count multiply-accumulates of convolutions and linear layers for
    the example inputs; sizes are bytes of parameters; `sqnr` is dB of the outputs for the
    example inputs against the float model (None when it was not measured).
    """

    target: str
    scheme: str
    passes: tuple[PassRecord, ...] = ()
    macs: int = 0
    integer_macs: int = 0
    float_bytes: int = 0
    size_bytes: int = 0
    sqnr: float | None = None
    runtime: str = ""
    calibration: str = ""
    seconds: float = 0.0
    left_in_float: tuple[Refusal, ...] = ()
    runtime_choice: RuntimeChoice | None = None  # where runtime="auto" had a choice
    arithmetic: str = "integer"  # of the multiply-accumulates that `integer_macs` counts
    note: str = ""  # what a reader of speed or size must know
    isa: str = ""  # CPUs that give the right numbers
    configuration: tuple[tuple[str, str], ...] = ()  # what was asked for, defaults resolved
    steps: tuple[tuple[str, float], ...] = ()  # milliseconds of what is no pass
    tuning: str = ""  # what tune=True changed, and gained
    budget: str = ""  # each limit, what was measured, and what was predicted
    repairs: tuple[str, ...] = ()  # of the float graph, whose values they scale
    weights: str = ""  # random, pretrained or file, where the command line knows it

    @property
    def coverage(self) -> float:
        """Share of the multiply-accumulates in low precision (1.0 when there are none)."""
        return self.integer_macs / self.macs if self.macs else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinite decibels (equal outputs) become null."""
        values = asdict(self) | {"coverage": self.coverage}
        return _finite(values)  # type: ignore[no-any-return]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(r for record in self.passes for r in record.refusals)

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(c for record in self.passes for c in record.choices)

    def __str__(self) -> str:
        parts = [self._headline(), self._pass_table(), self._choice_table(), self._float_table()]
        return "\n\n".join(part for part in parts if part)

    def _headline(self) -> str:
        ratio = self.float_bytes / self.size_bytes if self.size_bytes else float("nan")
        rows = [("target", f"{self.target}, scheme {self.scheme}, runtime {self.runtime}"),
                ("runtime", str(self.runtime_choice or "")),
                ("tuning", self.tuning),
                ("budget", self.budget.replace("; ", "\n")),
                ("runs on", self.isa),
                ("weights", WEIGHTS.get(self.weights, "")),
                ("note", self.note),
                (f"{self.arithmetic} MACs",
                 f"{100 * self.coverage:.2f} % of {self.macs / 1e6:.1f} M"),
                ("size", f"{self.float_bytes / 1e6:.3f} MB -> {self.size_bytes / 1e6:.3f} MB "
                         f"({ratio:.2f}x smaller)"),
                ("SQNR", _decibel(self.sqnr) or "not measured"),
                ("calibration", self.calibration or "none"),
                ("compiled in", f"{self.seconds:.2f} s, calibration aside"),
                ("asked for", ", ".join(f"{k}={v}" for k, v in self.configuration))]
        return _table([r for r in rows if r[1]], tablefmt="plain")

    def _pass_table(self) -> str:
        headers = ("pass", "rewrites", "refused", "ms", "checks ms", "against before", "operators")
        steps = [(f"({name})", "-", "-", f"{ms:.1f}", "", "", "") for name, ms in self.steps]
        rows = [*(p.row() for p in self.passes), *steps]
        return _table(rows, headers=headers, tablefmt="simple", disable_numparse=True)

    def _choice_table(self) -> str:
        if not self.choices:
            return ""
        rows = [(c.path, c.op, c.elements, c.way, c.table_us, c.float_us) for c in self.choices]
        table = _table(rows, headers=("function", "op", "values", "runs as", "table µs",
                                      "float µs"), tablefmt="simple")
        return f"functions without a kernel, and the cost table's microseconds\n{table}"

    def _float_table(self) -> str:
        if not self.left_in_float:
            return "nothing is left in float" if self.scheme != "fp32" else ""
        table = _table(_grouped(self.left_in_float),
                       headers=("op", "nodes", "code", "why", "first"),
                       tablefmt="simple", disable_numparse=True)
        return f"left in float\n{table}"


def _grouped(refusals: Sequence[Refusal]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.op, refusal.code, refusal.reason), []).append(refusal.path)
    return [(op, str(len(paths)), code, reason, paths[0])
            for (op, code, reason), paths in groups.items()]


def read_report(values: Mapping[str, Any]) -> Report:
    """The report of a file, without its passes; raises ArtifactError for anything else."""
    if not fits(dict(values), Report):
        raise ArtifactError("the manifest's report is malformed",
                            why=f"it is {str(values)[:80]!r}")
    left = tuple(Refusal(**row) for row in values.get("left_in_float", ()))
    return Report(**{**values, "passes": (), "steps": (), "configuration": (),
                     "repairs": tuple(values.get("repairs", ())), "runtime_choice": None,
                     "left_in_float": left})
