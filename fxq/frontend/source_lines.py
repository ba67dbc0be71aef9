"""Which line of the user's own code a node, an error or a function comes from."""

from __future__ import annotations

import linecache
import os
import sys
import traceback
from typing import Any

import torch

_FXQ = os.path.dirname(os.path.dirname(__file__))
_LIBRARY = (os.path.dirname(torch.__file__ or "") + os.sep, _FXQ + os.sep)


def user_line() -> str:
    """The innermost frame that belongs to the user's model, as `file:line  text`."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame = frame.f_back  # type: ignore[assignment]
    return _format_line(frame.f_code.co_filename, frame.f_lineno) if frame else ""


def _format_line(filename: str, line: int) -> str:
    text = linecache.getline(filename, line).strip()
    place = "/".join(filename.split(os.sep)[-2:])
    return f"{place}:{line}  {text}"


def line_of_code(function: Any) -> str:
    """Where a function of the user's is defined, as `file:line  text`; empty for others."""
    code = getattr(function, "__code__", None)
    return _format_line(code.co_filename, code.co_firstlineno) if code else ""


def line_of(error: BaseException) -> str:
    """The innermost line of the user's that an exception passed through, or an empty text."""
    frames = [f for f in traceback.extract_tb(error.__traceback__)
              if not f.filename.startswith(_LIBRARY)]
    return _format_line(frames[-1].filename, frames[-1].lineno or 0) if frames else ""
