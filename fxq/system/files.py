"""Files of the user's: read whole, written in one step or not at all."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import tempfile
from pathlib import Path

from fxq.errors import ArtifactError, ConfigError


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; raises ArtifactError for anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArtifactError(f"{path} is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read", why=error.strerror or str(error)) from error


def read_buffer(path: Path) -> memoryview:
    """The bytes of a regular file in memory of this process; raises ArtifactError.

    Large pages where there are any: to touch ordinary ones first costs more than to fill them.
    """
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise ArtifactError(f"{path} is no regular file")
        memory = mmap.mmap(-1, max(about.st_size, 1))
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                memory.madvise(mmap.MADV_HUGEPAGE)
        with open(path, "rb") as file:
            size = file.readinto(memory)
        return memoryview(memory)[:size]
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read", why=error.strerror or str(error)) from error


def write_file(path: Path, content: bytes) -> None:
    """Write beside the file and put it in place in one step: old or new, never half.

    Missing folders are made. Raises ConfigError when the place is full, read-only or no folder.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise ConfigError(f"{path} cannot be written", why=error.strerror or str(error),
                              fix="choose another folder; what was there is unchanged") from error
        raise
