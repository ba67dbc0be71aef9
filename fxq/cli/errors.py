"""What the command line does with errors: one message on stderr, and an exit code.

Exit codes: 0 ok, 1 a gate failed, 2 usage, 3 unsupported or untraceable, 4 bad artifact,
70 anything else (the user's own code that raises, a full disk, a reader that went away, a fault
of fxq), 130 Ctrl-C. `--debug` prints the traceback too.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from fxq.errors import (
    ArtifactError,
    BudgetError,
    FxqError,
    TargetUnavailableError,
    TraceError,
    UnsupportedOpError,
    VerificationError,
)

DEBUG = "--debug"
EXIT_CODES: tuple[tuple[type[FxqError], int], ...] = (
    (TraceError, 3), (UnsupportedOpError, 3), (TargetUnavailableError, 3), (ArtifactError, 4),
    (VerificationError, 70), (BudgetError, 1), (FxqError, 2))
INTERNAL, INTERRUPTED = 70, 130
# to run any command
NEEDED = ("torch", "numpy", "tabulate", "safetensors", "rich", "sklearn", "scipy")


def exit_code(error: FxqError) -> int:
    """The exit code that stands for an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def run_guarded(run: Callable[[], Any], debug: bool) -> None:
    """Run a command and exit with its code; whatever it raises becomes a message."""
    try:
        code = run() or 0
        sys.stdout.flush()  # a full disk shows here, and not when the interpreter ends
    except BaseException as error:
        if debug:
            traceback.print_exc()
        code = _report(error, "" if debug else f" ({DEBUG} shows the traceback)")
    if code == INTERRUPTED:
        _say("interrupted")
    sys.exit(code)


def _report(error: BaseException, hint: str) -> int:
    """Print one message, with a hint for what is no error of fxq's own; gives the exit code."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError):
        error = error.__context__  # a library has turned a broken pipe into an exit
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED
    if isinstance(error, FxqError):
        _say(f"error[{type(error).__name__}]: {error}")
        return exit_code(error)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in NEEDED:
        _say(f"error: {error.name} is not installed\n  fix   pip install fxq")
        return exit_code(TargetUnavailableError(""))
    usage = getattr(error, "exit_code", None)
    if usage is not None and hasattr(error, "show"):  # what typer says of wrong options
        error.show()
        return int(usage)
    _close_broken(error)
    _say(f"error: {_sentence(error)}{hint}")
    return INTERNAL


def _sentence(error: BaseException) -> str:
    """What happened, and where in the user's own code, in one line."""
    if isinstance(error, SystemExit):
        what = f"code of the model or its data ended the program with {error.code!r}"
    else:
        text = next((line for line in str(error).splitlines() if line.strip()), "")
        what = ": ".join(filter(None, (type(error).__name__, text.strip()[:300])))
    notes = [note.strip() for note in getattr(error, "__notes__", ())]
    place = _users_line(error)
    return ", ".join([what, *notes, *([f"at {place}"] if place else [])])


def _users_line(error: BaseException) -> str:
    """file:line of the innermost frame that is neither fxq nor installed; empty for none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}:{error.lineno}"
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the package
    frames = [f for f in traceback.extract_tb(error.__traceback__)
              if os.path.isfile(f.filename) and "site-packages" not in f.filename
              and not f.filename.startswith((own + os.sep, os.path.dirname(os.__file__)))]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def _close_broken(error: BaseException) -> None:
    """Leave a stdout that cannot be written, so that the interpreter does not fail on it again."""
    if not isinstance(error, OSError):
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    try:
        typer.echo(text, err=True)
    except OSError:  # stderr is closed too: the exit code must do
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
