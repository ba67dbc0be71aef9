"""What the library warns of, on stderr and in the words of the command line."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer

from fxq.errors import FxqWarning

_SPELLINGS = ((r"calibration_data=loader", "--data DIR"),
              (r'overrides=\{"([^"]+)": "fp32"\}', r'--override "\1=fp32"'),
              (r'calibrator="auto"', "--calibrator auto"))


@contextmanager
def on_stderr() -> Iterator[None]:
    """Each FxqWarning of the block becomes one line on stderr; others are shown as ever."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=FxqWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, lineno: int,
                 file: TextIO | None = None, line: str | None = None) -> Any:
            if not issubclass(category, FxqWarning):
                return before(message, category, filename, lineno, file, line)
            typer.echo(f"warning: {_as_options(str(message))}", file=sys.stderr)
            return None

        warnings.showwarning = show
        yield


def _as_options(text: str) -> str:
    """The advice with the command line's options instead of Python's arguments."""
    for python, option in _SPELLINGS:
        text = re.sub(python, option, text)
    return text
