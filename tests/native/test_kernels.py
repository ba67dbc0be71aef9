"""The kernels' own tests, in C++: compiled with the library's sources, with and without sanitizers."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from fxq.kernels.native import build

TESTS = sorted((Path(__file__).parent / "kernels").glob("*_test.cpp"))
SUPPRESSIONS = Path(__file__).parent / "kernels" / "thread.supp"
SANITIZERS = {
    "plain": (),
    "address,undefined": ("-O1", "-g", "-fsanitize=address,undefined",
                          "-fno-sanitize-recover=undefined"),
    # which knows no fences; the pool has two
    "thread": ("-O1", "-g", "-fsanitize=thread", "-Wno-tsan"),
}


def compiled(words, files, folder):
    """An object file for each source, made side by side."""
    objects = [folder / f"{f.stem}.o" for f in files]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda f, o: build.compile_file(words, f, o), files, objects))
    return objects


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=() if name == "plain" else pytest.mark.slow) for name in SANITIZERS])
def programs(request, tmp_path_factory):
    """(flags, folder): every test linked with the library's objects, those of the build if plain."""
    try:
        words = build.command()
    except build.CannotBuild as error:
        pytest.skip(str(error))
    flags, folder = SANITIZERS[request.param], tmp_path_factory.mktemp("kernels")
    with nullcontext(folder) if flags else build.object_folder() as place:
        library = compiled([*words, *flags], build.sources(words), place)
        tests = compiled([*words, *flags, "-Wall", "-Wextra", f"-I{build.HERE}"], TESTS, folder)
        for test in tests:
            build.execute([*words, *flags, *map(str, (test, *library)), "-o",
                           str(test.with_suffix(""))])
    return request.param, folder


@pytest.mark.parametrize("test", [t.stem for t in TESTS])
def test_kernels(programs, test):
    """Every instruction set that the processor has gives the bits of plain C++, inside its memory."""
    flags, folder = programs
    if flags == "thread" and test not in ("pool_test", "program_test"):
        pytest.skip("it starts no threads")
    options = {"TSAN_OPTIONS": f"suppressions={SUPPRESSIONS}"}
    done = subprocess.run([folder / test], capture_output=True, text=True, check=False, timeout=900,
                          env=os.environ | options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "WARNING: ThreadSanitizer" not in done.stderr
