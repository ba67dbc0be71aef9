"""The one table of accuracy on real images, and the pages that show or cite it.

`benchmarks/accuracy.py` measures the table and keeps it as `docs/benchmarks/accuracy.json`. Every
page below is made from that file, so that no two pages state different figures for one model.

    python benchmarks/figures.py    # the pages again, from the table as it is
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

DOCS = Path(__file__).parent.parent / "docs"
TABLE = DOCS / "benchmarks" / "accuracy.json"
Row = dict[str, Any]
Edit = Callable[[str, list[str]], dict[int, str]]  # (section, cells) -> new texts by column

_ACCURACY = """Accuracy on real images: top-1, agreement with float, SQNR, per model.

    FXQ_DATA=../shared/data python benchmarks/accuracy.py --publish

ImageNet models are calibrated on 256 images of imagenet_calib and measured on 1000 labelled
validation images; CIFAR models on 512 train images and the whole test set. The same table holds
[every target](engines.md)."""
_ENGINES = """Every int8 target on the same real images, from the same calibration.

    FXQ_DATA=../shared/data python benchmarks/accuracy.py --publish

One pass over the calibration images serves all targets. `isa=any` keeps pairs of weights safe for
x86 CPUs without VNNI. Agreement is with float, and with the fbgemm row. The table and the images
are those of [accuracy](accuracy.md)."""


def read_table() -> Row:
    """{"environment": one line, "rows": [...]}, as `accuracy.py --publish` left it."""
    return json.loads(TABLE.read_text())


def find(table: Row, model: str, kind: str) -> Row | None:
    """The row of a model and a kind ("float", "int8_static fbgemm", …)."""
    return next((r for r in table["rows"] if (r["model"], r["kind"]) == (model, kind)), None)


def pages(table: Row) -> dict[Path, str]:
    """Each page that holds a figure of the table, with its text."""
    schemes, experiments = DOCS / "benchmarks" / "schemes.md", DOCS / "experiments.md"
    return {DOCS / "benchmarks" / "accuracy.md": accuracy_page(table),
            DOCS / "benchmarks" / "engines.md": engines_page(table),
            schemes: with_cells(schemes.read_text(), lambda s, c: _scheme_cells(table, s, c)),
            experiments: with_cells(experiments.read_text(),
                                    lambda s, c: _experiment_cells(table, c))}


def accuracy_page(table: Row) -> str:
    columns = ("top-1 %", "points lost", "lost, 95 %", "agreement %", "agreement, 95 %", "SQNR dB")
    shown = [{"model": r["model"], "kind": r["kind"], **{c: r[c] for c in columns if c in r}}
             for r in table["rows"] if "isa=any" not in r["kind"]]
    return _page("Accuracy on real images", table, _ACCURACY, shown)


def engines_page(table: Row) -> str:
    shown = []
    for row in table["rows"]:
        if not row["kind"].startswith("int8_static "):
            continue
        exact = find(table, row["model"], "float")
        assert exact is not None
        shown.append({"model": row["model"], "target": row["kind"].removeprefix("int8_static "),
                      "float top-1 %": exact["top-1 %"], "top-1 %": row["top-1 %"],
                      "agrees with float %": row["agreement %"],
                      "with fbgemm %": row["with fbgemm %"], "SQNR dB": row["SQNR dB"],
                      "times smaller": row["times smaller"], "runs on": row["runs on"]})
    return _page("Targets on real images", table, _ENGINES, shown)


def _page(title: str, table: Row, about: str, rows: list[Row]) -> str:
    shown = [{k: _cell(k, v) for k, v in row.items()} for row in rows]
    about += f"\n\n{table['note']}" if table.get("note") else ""
    numbers = [not isinstance(v, str) for v in rows[0].values()]
    text = tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True,
                    colalign=["right" if n else "left" for n in numbers])
    return f"# {title}\n\n{table['environment']}\n\n{about}\n\n{text}\n"


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "equal" if column == "SQNR dB" else ""
    return value if isinstance(value, str) else f"{value:.2f}"


def with_cells(text: str, edit: Edit) -> str:
    """A page whose tables' cells `edit` has replaced; columns keep their widths."""
    lines, section = text.split("\n"), ""
    for position, line in enumerate(lines):
        if line.startswith("## "):
            section = line[3:]
        if not line.startswith("| "):
            continue
        cells = line.split("|")[1:-1]
        for column, new in edit(section, [c.strip() for c in cells]).items():
            right = cells[column].startswith("  ") or not cells[column].endswith("  ")
            width = len(cells[column]) - 2
            cells[column] = f" {new:>{width}} " if right else f" {new:<{width}} "
        lines[position] = f"|{'|'.join(cells)}|"
    return "\n".join(lines)


def _scheme_cells(table: Row, section: str, cells: list[str]) -> dict[int, str]:
    """Top-1, and its distance to float, of the schemes that the table holds too."""
    kind = {("float", "eager", "-"): "float", ("fp32", "fbgemm", "-"): "fp32 fbgemm",
            ("int8_static", "fbgemm", "mse"): "int8_static fbgemm"}.get(tuple(cells[:3]), "")
    row, exact = find(table, section, kind), find(table, section, "float")
    if row is None or exact is None:
        return {}
    return {3: f"{row['top-1 %']:.2f}", 4: f"{row['top-1 %'] - exact['top-1 %']:.2f}"}


def _experiment_cells(table: Row, cells: list[str]) -> dict[int, str]:
    """What the pretrained ResNets lose, and how much smaller they are."""
    model, _, target = cells[1].partition(", ") if len(cells) > 1 else ("", "", "")
    row, exact = find(table, model, f"int8_static {target}"), find(table, model, "float")
    if cells[0] != "pretrained ResNets" or row is None or exact is None:
        return {}
    lost = row["top-1 %"] - exact["top-1 %"]
    return {4: f"{lost:+.2f}" if cells[2] == "points" else f"{row['times smaller']:.2f}"}


if __name__ == "__main__":
    for path, text in pages(read_table()).items():
        path.write_text(text)
