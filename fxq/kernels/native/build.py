"""Compile the native library. Run as `python -m fxq.kernels.native.build`; setup.py calls it too.

It stands alone: setup.py loads it from its file, before fxq is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NAME = "libfxq_native.so"
NOTE = "missing.txt"  # lies where the library would, and says why there is none
# Products and sums are rounded one by one, as in the definition of the arithmetic.
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-math-errno",
         "-fvisibility=hidden", "-pthread")
# The end of a file's name says which processor it is for, and its own flags. (x86's files name
# their instructions themselves; older compilers have no way to do so for Arm's.)
PROCESSORS: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(("avx2", "avxvnni", "avx512", "vnni", "vbmi", "amx"), ("x86_64", ())),
    "neon": ("aarch64", ("-march=armv8.2-a+dotprod",)),
}

INTERFACE = ("native.h", "api.h")  # what Python mirrors


class CannotBuild(Exception):
    """There is no compiler here, or it failed; the message is one sentence."""


def compiler() -> list[str]:
    """The C++ compiler's command: $CXX, g++, c++ or clang++. Raises CannotBuild."""
    for command in filter(None, (os.environ.get("CXX"), "g++", "c++", "clang++")):
        words = command.split()
        if words and shutil.which(words[0]):
            return words
        if command == os.environ.get("CXX"):
            raise CannotBuild(f"CXX names {command!r}, which is no program here")
    raise CannotBuild("no C++ compiler was found")


def interface() -> int:
    """A digest of the headers that Python mirrors; the library knows that of its own making."""
    return zlib.crc32(b"".join((HERE / name).read_bytes() for name in INTERFACE)) >> 1


def command() -> list[str]:
    """The compiler with its flags. Raises CannotBuild."""
    return [*compiler(), *FLAGS, f"-DFXQ_INTERFACE={interface()}"]


def processor_of(source: Path) -> tuple[str, tuple[str, ...]]:
    """Its row of PROCESSORS; no processor where the file is for all."""
    return PROCESSORS.get(source.stem.rpartition("_")[2], ("", ()))


def sources(words: list[str]) -> list[Path]:
    """The files to compile for the processor that a compiler makes code for. Raises CannotBuild."""
    here = execute([*words, "-dumpmachine"]).partition("-")[0]
    return sorted(f for f in HERE.glob("*.cpp") if processor_of(f)[0] in ("", here))


def is_current(library: Path) -> bool:
    """The library exists and no source is newer."""
    files = [*HERE.glob("*.cpp"), *HERE.glob("*.h"), HERE / "build.py"]
    return library.exists() and library.stat().st_mtime >= max(f.stat().st_mtime for f in files)


def build(folder: Path = HERE) -> Path:
    """Make `folder` hold a library of these sources, or a note. Raises CannotBuild."""
    library, note = folder / NAME, folder / NOTE
    if is_current(library):
        return library
    try:
        _compile(library, command())
    except CannotBuild as error:
        library.unlink(missing_ok=True)
        note.write_text(f"{error}\n")
        raise
    note.unlink(missing_ok=True)
    return library


def _compile(library: Path, words: list[str]) -> None:
    """One object file for each source, in parallel; the library appears when it is whole."""
    whole = library.with_name(f"{NAME}.{os.getpid()}")
    with object_folder() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [(source, folder / f"{source.stem}.o") for source in sources(words)]
        list(pool.map(lambda f: compile_file(words, *f), files))
        try:
            execute([*words, "-shared", "-o", str(whole), *(str(o) for _, o in files)])
            whole.replace(library)
        finally:
            whole.unlink(missing_ok=True)


@contextmanager
def object_folder() -> Iterator[Path]:
    """A folder for object files: in a checkout one that stays, so that few are made anew."""
    root = HERE.parents[2]
    if (root / "pyproject.toml").exists() and os.access(root, os.W_OK):
        kept = root / "build" / "native"
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as passing:
        yield Path(passing)


def compile_file(compiler: list[str], source: Path, target: Path) -> None:
    """Make an object file, unless it is there and newer than all it was made of."""
    words = [*compiler, *processor_of(source)[1], "-c", str(source)]
    stamp = target.with_suffix(".command")
    newest = max(f.stat().st_mtime for f in (source, *HERE.glob("*.h")))
    if target.exists() and target.stat().st_mtime >= newest and stamp.exists() \
            and stamp.read_text() == repr(words):
        return
    whole = target.with_suffix(f".{os.getpid()}.o")
    execute([*words, "-o", str(whole)])
    whole.replace(target)
    stamp.write_text(repr(words))


def execute(words: list[str]) -> str:
    """What the compiler prints. Raises CannotBuild with its first error."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotBuild(f"the C++ compiler {words[0]} does not start: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [""]
        raise CannotBuild(f"the C++ compiler {words[0]} failed: {lines[0].strip()[:300]}")
    return done.stdout


def main() -> int:
    """Build in place; say what is there."""
    try:
        sys.stdout.write(f"{build()}\n")
    except CannotBuild as error:
        sys.stderr.write(f"fxq's native library was not built: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
