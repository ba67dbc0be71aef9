"""Every error that fxq raises on purpose.

    FxqError
    ├── TraceError              the model could not be turned into a graph
    ├── UnsupportedOpError      strict=True and a node has no integer kernel, or no row to export
    ├── CalibrationError        the data, or what was measured on it, is unusable
    ├── ConfigError             an argument names nothing or contradicts another
    │   └── InputError          a call's input is none that the model takes
    ├── TargetUnavailableError  this machine or torch build cannot run the target
    ├── VerificationError       a pass changed the meaning of the graph
    ├── BudgetError             no model is within what the user allows
    └── ArtifactError           a file is damaged, foreign or too new
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class FxqError(Exception):
    """Base of all deliberate errors: what happened, where, why, and how to fix it.

    Each part is plain text; `where` is the user's own source line when there is one.
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        super().__init__(self._format())

    def _format(self) -> str:
        parts = (("where", self.where), ("why", self.why), ("fix", self.fix))
        lines = [self.what]
        for label, text in parts:
            if text:
                lines.append(f"  {label:<5} " + text.replace("\n", "\n        "))
        return inert("\n".join(lines), keep="\n\t")


class TraceError(FxqError):
    """The model could not be captured as a graph."""


class UnsupportedOpError(FxqError):
    """A node has no integer kernel and strict=True forbids float, or it cannot be exported."""


class CalibrationError(FxqError):
    """Calibration data is missing, empty, not finite, or never reached an observer."""


class ConfigError(FxqError):
    """An argument is unknown, contradictory, or matches nothing."""


class InputError(ConfigError):
    """An input of a call has a shape, dtype, layout or device that the model does not take."""


class TargetUnavailableError(FxqError):
    """The target cannot run on this machine or with this build of torch."""


class VerificationError(FxqError):
    """A graph broke the rules of its stage, or a pass changed what it computes."""


class BudgetError(FxqError):
    """No assignment of schemes is within the budget, as predicted or as measured."""


class ArtifactError(FxqError):
    """A compiled file is damaged, was made elsewhere, or is newer than this fxq."""


_MOST = 12  # names that one line of help may list


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """One line of help that lists the legal names, the closest first."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1) or [n for n in names if n.startswith(name)]
    hint = f"did you mean {close[0]!r}? " if close else ""
    shown = names if len(names) <= _MOST else difflib.get_close_matches(name, names, _MOST, 0.0)
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{hint}known: {', '.join(shown)}{more}"


class FxqWarning(UserWarning):
    """Something works, but not as well as it could."""


def inert(text: str, keep: str = "") -> str:
    """The text with everything that does not print as itself escaped, as in a Python literal.

    Escape sequences, bidirectional overrides, zero-width characters and lone surrogates are such.
    `keep` names characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def all_inert(value: Any) -> Any:
    """A JSON value with each of its texts inert, keys included."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, list):
        return [all_inert(v) for v in value]
    if isinstance(value, dict):
        return {inert(k): all_inert(v) for k, v in value.items()}
    return value
