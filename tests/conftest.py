"""Fixtures: goldens, real data, and compilation without the synthetic-data warning."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"
_used: set[Path] = set()


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


class Golden:
    """Compares equal to the text in the golden file of the running test."""

    def __init__(self, path: Path, update: bool) -> None:
        self.path, self.update = path, update

    def check(self, text: str, case: str = "") -> None:
        path = self.path.with_suffix(f".{case}.txt" if case else ".txt")
        _used.add(path)
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"no golden {path.relative_to(GOLDEN.parent)}: run `make golden`"
        assert text == path.read_text(), f"differs from {path}; if that is meant: `make golden`"


@pytest.fixture
def golden(request):
    folder = GOLDEN / request.path.stem
    name = request.node.name.replace("[", ".").replace("]", "")
    return Golden(folder / f"{name}.txt", request.config.getoption("--update-golden"))


def unused_goldens() -> list[Path]:
    """Golden texts that no test of this session has read."""
    return sorted(p for p in GOLDEN.rglob("*.txt") if p not in _used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """A worker of pytest-xdist is done: what its tests read counts here."""
    _used.update(map(Path, getattr(node, "workeroutput", {}).get("goldens", ())))


def pytest_sessionfinish(session, exitstatus):
    """A golden that no test reads is an error, when all tests were run."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["goldens"] = sorted(map(str, _used))
        return
    options = session.config.option
    whole = (not options.keyword and options.markexpr in ("", "not slow")
             and session.config.args_source.name != "ARGS")
    if whole and exitstatus == 0 and (orphans := unused_goldens()):
        print("\nunused goldens:", *orphans, sep="\n  ")
        session.exitstatus = 1


def pytest_collectstart(collector):
    """Nets that a test file makes while it is imported do not depend on the files before it."""
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    """Every test, and every fixture that tests share, starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def unchanged_globals():
    """Every test leaves torch's globals as they were."""
    engine, threads = torch.backends.quantized.engine, torch.get_num_threads()
    yield
    assert torch.backends.quantized.engine == engine, "the test left another quantized engine"
    assert torch.get_num_threads() == threads


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A small compiled model as a file; tests that change it copy it first."""
    from tests.helpers import compiled
    from tests.nets import Classifier, lively, ramp

    path = tmp_path_factory.mktemp("artifact") / "net.fxq"
    compiled(lively(Classifier()), ramp(2, 3, 16, 16)).save(path)
    return path


@pytest.fixture(scope="session")
def data():
    """The folder of real images and weights, or a skip."""
    folder = os.environ.get("FXQ_DATA")
    if not folder:
        pytest.skip("FXQ_DATA is not set: real images and weights are not here")
    return Path(folder)
