"""The native library is built where there is a compiler, and its absence is explained elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from fxq.kernels.native import build, library

ROOT = Path(__file__).parents[2]


def test_it_says_which_compiler_is_missing(monkeypatch):
    """CXX is obeyed; without it, the usual names are looked for."""
    monkeypatch.setenv("CXX", "nonesuch -O0")
    with pytest.raises(build.CannotBuild, match="nonesuch"):
        build.compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.CannotBuild, match="no C\\+\\+ compiler was found"):
        build.compiler()


def test_a_failed_build_leaves_a_note(monkeypatch, tmp_path):
    """And no library; the note goes when a build succeeds."""
    monkeypatch.setenv("CXX", "false")
    (tmp_path / build.NAME).write_bytes(b"old")
    os.utime(tmp_path / build.NAME, (0, 0))
    monkeypatch.setattr(build, "object_folder", lambda: nullcontext(tmp_path))
    with pytest.raises(build.CannotBuild, match="false failed"):
        build.build(tmp_path)
    assert "false failed" in (tmp_path / build.NOTE).read_text()
    assert not (tmp_path / build.NAME).exists()


def test_it_is_built_again_only_when_sources_are_newer(tmp_path):
    """By the files' times."""
    made = tmp_path / build.NAME
    assert not build.is_current(made)
    made.write_bytes(b"")
    assert build.is_current(made)
    os.utime(made, (0, time.time() - 10**9))
    assert not build.is_current(made)


@pytest.mark.parametrize("files, why", [
    ({}, "was not built"),
    ({build.NOTE: "no C++ compiler was found\n"}, "no C\\+\\+ compiler was found when"),
    ({build.NAME: "no library"}, "cannot be loaded"),
])
def test_the_loader_says_why_not(monkeypatch, tmp_path, files, why):
    """One sentence, and how to mend it."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(library, "HERE", tmp_path)
    found, reason = library._opened.__wrapped__()
    assert found is None
    assert re.search(f"{why}.*kernels.native.build", reason)


@pytest.mark.skipif(bool(library.why_not()), reason=library.why_not())
def test_an_unknown_instruction_set_is_an_error(monkeypatch):
    """The message lists those that there are; a known one is obeyed."""
    monkeypatch.setenv("FXQ_NATIVE_ISA", "plain")
    assert library.isa() == "plain"
    monkeypatch.setenv("FXQ_NATIVE_ISA", "sse9")
    with pytest.raises(library.ConfigError, match="(?s)sse9.*plain, neon, avx2, avxvnni, vnni, amx"):
        library.isa()


@pytest.mark.skipif(bool(library.why_not()), reason=library.why_not())
@pytest.mark.parametrize("name", library.ISAS)
def test_the_peak_loop_counts_its_work(name):
    """Twice the rounds, twice the products; an instruction set without a loop does none."""
    assert library.peak(20, name) == 2 * library.peak(10, name) >= 0
    assert library.peak(10, "plain") == 0


@pytest.mark.slow
@pytest.mark.parametrize("cxx, tag, held, absent", [
    ("", "py3-none-linux_", build.NAME, build.NOTE),
    ("nonesuch", "py3-none-any", build.NOTE, build.NAME)])
def test_wheels_with_and_without_a_compiler(tmp_path, cxx, tag, held, absent):
    """Both install; the tag names a platform only where there is a library."""
    copy = tmp_path / "fxq"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(
        ".*", "build", "tests", "docs", "benchmarks", "*.egg-info", build.NAME, build.NOTE))
    environment = {k: v for k, v in os.environ.items() if k != "CXX"} | ({"CXX": cxx} if cxx else {})
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path),
                    str(copy)], check=True, capture_output=True, env=environment)
    wheel = next(tmp_path.glob("*.whl"))
    names = {Path(n).name for n in zipfile.ZipFile(wheel).namelist()}
    assert tag in wheel.name and held in names and absent not in names
    assert {"run.cpp", "native.h"} <= names
