"""README and docs are executed: every Python block runs, every command exists."""

import json
import re
import shlex
import warnings
from pathlib import Path

import pytest

from tests.command import fxq_command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


PAGES = sorted((ROOT / "docs").glob("*.md"))
EXTRAS = {"export": ("onnx", "onnxruntime")}  # what a page, or a command, needs beside fxq


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_python(text):
    """All Python blocks, one after the other, in one namespace, as a reader would."""
    namespace = {}
    for block in blocks("python", text):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(block, namespace)
    return namespace


def test_python_blocks_run_in_order(tmp_path, monkeypatch):
    """The README's code works."""
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python")) >= 2
    assert "100.00 %" in str(run_python(README)["compiled"].report)


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "extending"], ids=lambda p: p.stem)
def test_pages_run(page, tmp_path, monkeypatch):
    """So does the code of every page."""
    for name in EXTRAS.get(page.stem, ()):
        pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "compiled" in run_python(page.read_text()) or not blocks("python", page.read_text())


def commands():
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line]


FXQ = [c for c in commands() if c[0].endswith("fxq")]
WRITERS = {c[c.index("-o") + 1]: c for c in FXQ if "-o" in c}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Runs a command in a folder that has what git keeps and nothing else, after those it reads."""
    folder, done = tmp_path_factory.mktemp("checkout"), {}
    (folder / "tests").symlink_to(ROOT / "tests")

    def run(command):
        for name in set(command) & set(WRITERS):
            if WRITERS[name] != command:
                run(WRITERS[name])
        key = shlex.join(command)
        if key not in done:
            done[key] = fxq_command(*command[1:], cwd=folder)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield run


@pytest.mark.parametrize("command", FXQ, ids=lambda c: " ".join(c[1:3]))
def test_fxq_commands_run(fresh, command):
    """Word for word, as in a fresh checkout; each makes the folders that it writes to."""
    for name in EXTRAS.get(command[1], ()):
        pytest.importorskip(name, reason=f"{name} is not installed")
    done = fresh(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_make_targets_exist():
    """`make demo` and `make test` are in the Makefile."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [c[1] for c in commands() if c[0] == "make"]
    assert wanted == ["demo", "test"]
    assert set(wanted) <= set(targets)


def test_tables_of_figures_name_their_machine():
    """Every page under docs/benchmarks has the environment line and names its script."""
    pages = sorted((ROOT / "docs" / "benchmarks").glob("*.md"))
    assert pages
    for page in pages:
        text = page.read_text()
        assert re.search(r"threads, torch \d.*fxq \d", text), page
        assert "python benchmarks/" in text, page


def test_pages_state_the_figures_of_one_table(monkeypatch):
    """Every page that shows or cites an accuracy is what the one table makes of it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import figures

    table = figures.read_table()
    keys = [(r["model"], r["kind"]) for r in table["rows"]]
    assert len(set(keys)) == len(keys) > 20
    made = figures.pages(table)
    assert len(made) == 4
    stale = [path.name for path, text in made.items() if path.read_text() != text]
    assert not stale, "python benchmarks/figures.py"


def test_another_figure_changes_every_page_that_cites_it(monkeypatch):
    """The pages do hang on the table: one figure of ResNet-20 changes, and so do all four."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import figures

    table = figures.read_table()
    figures.find(table, "cifar10_resnet20", "int8_static fbgemm")["top-1 %"] = 12.34
    assert all(path.read_text() != text for path, text in figures.pages(table).items())


def test_the_picture_of_trade_offs_is_of_the_table():
    """The points inside the picture are the rows of docs/experiments.md, where it is shown."""
    from PIL import Image

    shown = [p for p in (ROOT / "README.md", *PAGES) if "pareto.png" in p.read_text()]
    path, table = ROOT / "docs" / "images" / "pareto.png", (ROOT / "docs" / "experiments.md")
    assert bool(shown) == path.exists()
    for point in json.loads(Image.open(path).text["Description"]) if shown else ():
        assert re.search(rf"\| {point['name']} +\|.*\| {point['accuracy']:.2f} ", table.read_text())


def test_the_table_of_peers_is_what_was_found(monkeypatch):
    """fxq's column is looked up in a small compiled model; a feature that went would show."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import peers

    assert (ROOT / "docs" / "peers.md").read_text() == peers.page(), (
        "python benchmarks/peers.py --markdown docs/peers.md")
