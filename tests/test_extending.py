"""docs/extending.md: each example is written to an empty folder, as the page names it, and runs."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.command import python_command

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
SECTIONS = {title: text for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
            if "```python" in text}
NAMED = re.compile(r"# (\w+\.py)\n")


def blocks(text, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def files(title):
    """The blocks of a section that begin with the name of a file."""
    return {name[1]: block for block in blocks(SECTIONS[title]) if (name := NAMED.match(block))}


def install(folder, text):
    """Entry points of the page's TOML, as an installed package has them."""
    groups = tomllib.loads(text)["project"]["entry-points"]
    info = folder / "example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in rows.items())
        for group, rows in groups.items()))


def run(folder, title):
    for name, block in files(title).items():
        (folder / name).write_text(block)
    for text in blocks(SECTIONS[title], "toml"):
        install(folder, text)
    program = "".join(b for b in blocks(SECTIONS[title]) if not NAMED.match(b))
    assert "compiled = fxq.compile(" in program and "assert " in program
    return python_command("-c", program, cwd=folder)


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_runs(title, tmp_path):
    """Its files, its entry points, and the program that uses and checks them."""
    done = run(tmp_path, title)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("title", ["A calibrator", "A runtime"])
def test_without_its_entry_point_the_name_is_unknown(title, tmp_path, monkeypatch):
    """The failing twin: the page's TOML is what leads to the file."""
    monkeypatch.setitem(SECTIONS, title, SECTIONS[title].replace("```toml", "```text"))
    assert "ConfigError: unknown" in run(tmp_path, title).stderr


def test_the_table_counts_the_files():
    """One row for each example, with its section, and as many files as the section shows."""
    rows = dict(re.findall(r"^\| \[(.*?)\]\(#.*?\) \| (\d) \|$", PAGE, re.M))
    assert {title.lower(): str(len(files(title))) for title in SECTIONS} == rows
    assert len(rows) == 8
