"""Other compilers and processors: the kernels compile without warnings, and Arm's give x86's bits.

Arm's run under qemu, where it is installed.
"""

import shutil
import subprocess
from functools import cache

import pytest

from fxq.kernels.native import build
from tests.native.test_kernels import TESTS, compiled

WARNINGS = ("-Wall", "-Wextra", "-Werror")
# gcc 12 warns of the undefined registers of its own header (GCC bug 105593)
GCC = (*WARNINGS, "-Wno-uninitialized", "-Wno-maybe-uninitialized")
COMPILERS = {
    "x86-gcc": ("x86_64-linux-gnu-g++", *GCC),
    "x86-clang": ("clang++", "--target=x86_64-linux-gnu", *WARNINGS),
    "arm-gcc": ("aarch64-linux-gnu-g++", *GCC),
    "arm-clang": ("clang++", "--target=aarch64-linux-gnu", *WARNINGS),
}
EMULATOR, LIBRARIES = "qemu-aarch64", "/usr/aarch64-linux-gnu"
# Of each test, as many cases as an emulator computes in seconds. It does not survive a fork.
CASES = {"dense_test": [150], "other_test": [60], "program_test": [60], "check_test": [500],
         "pool_test": [20, "without-fork"]}


def command(name):
    """The compiler with the library's flags; skips where it is not installed."""
    found = COMPILERS[name]
    if not shutil.which(found[0]):
        pytest.skip(f"{found[0]} is not installed")
    return [found[0], *build.FLAGS, *found[1:]]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """library(name): the compiler, a folder, and the objects of all its sources; made once."""
    @cache
    def made(name):
        words, folder = command(name), tmp_path_factory.mktemp(name)
        return words, folder, compiled(words, build.sources(words), folder)
    return made


def linked(made, test):
    """The program of one of the kernels' tests."""
    words, folder, objects = made
    source = next(t for t in TESTS if t.stem == test)
    own = compiled([*words, f"-I{build.HERE}"], [source], folder)
    build.execute([*words, *map(str, [*own, *objects]), "-o", str(folder / test)])
    return folder / test


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILERS)
def test_no_compiler_warns(name, library):
    """Of the files of its processor, which are those that the name of each file says."""
    assert library(name)[2]


@pytest.mark.parametrize("machine, held, absent", [
    ("x86_64-linux-gnu", {"dense_avx2", "dense_vnni", "lookup_vbmi"}, {"dense_neon"}),
    ("aarch64-linux-gnu", {"dense_neon", "lookup_neon"}, {"dense_avx2", "dense_amx"}),
    ("riscv64-linux-gnu", {"dense_plain"}, {"dense_neon", "dense_avx2"})])
def test_each_processor_has_its_files(machine, held, absent, monkeypatch):
    """The compiler says what it makes code for; a processor without kernels has the plain ones."""
    monkeypatch.setattr(build, "execute", lambda words: f"{machine}\n")
    names = {f.stem for f in build.sources(["c++"])}
    assert held | {"dense_plain", "run"} <= names and not absent & names


def run(*words):
    """What a test prints; it must succeed."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False,
                          timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def emulated(library, test, processor="max"):
    """What a test prints on an Arm processor."""
    if not shutil.which(EMULATOR):
        pytest.skip(f"{EMULATOR} is not installed")
    program = linked(library("arm-gcc"), test)
    return run(EMULATOR, "-L", LIBRARIES, "-cpu", processor, program, *CASES[test])


@pytest.mark.slow
@pytest.mark.parametrize("test", CASES)
def test_arm_gives_the_bits_of_plain(library, test):
    """Every kernel and random programs, in guarded memory."""
    said = emulated(library, test)
    assert test not in ("dense_test", "other_test") or "neon" in said


@pytest.mark.slow
def test_arm_and_x86_give_the_same_bits(library):
    """A digest of what random programs compute, on every instruction set of both."""
    here = run(linked(library("x86-gcc"), "program_test"), *CASES["program_test"])
    assert emulated(library, "program_test") == here


@pytest.mark.slow
def test_arm_without_dot_products_runs_plain(library):
    """Cortex-A53 has none."""
    assert "neon" in emulated(library, "other_test", "cortex-a76")
    assert "neon" not in emulated(library, "other_test", "cortex-a53")
