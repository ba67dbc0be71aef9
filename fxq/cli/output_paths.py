"""Files that a command will write: checked before its work, made with their folders after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fxq.errors import ConfigError


def check_outputs(*paths: Path | None) -> None:
    """Raise ConfigError for a path that cannot be written, without leaving anything there.

    The nearest folder that exists must take a new file; missing parents are made on writing.
    """
    wanted = [p for p in paths if p is not None]
    resolved = [p.resolve() for p in wanted]
    for path in wanted:
        if resolved.count(path.resolve()) > 1:
            raise ConfigError(f"{path} is asked for twice",
                              why="one output would replace the other",
                              fix="give each output a name of its own")
        _check(path)


def check_folder(path: Path | None) -> None:
    """Raise ConfigError for a folder that exists or cannot be made."""
    if path is not None and path.exists():
        raise ConfigError(f"{path} exists", fix="name a new folder; what was there is unchanged")
    check_outputs(path)


def _check(path: Path) -> None:
    fix = "choose another path; what was there is unchanged"
    if path.is_dir():
        raise ConfigError(f"{path} cannot be written", why="it is a folder", fix=fix)
    folder = next(p for p in path.absolute().parents if p.exists() or p.is_symlink())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{path} cannot be written",
                          why=f"{folder}: {error.strerror or error}", fix=fix) from error
