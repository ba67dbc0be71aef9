"""One cost table from several measured ones: the rows of `targets/costs.py`.

    python benchmarks/combine_costs.py

A table and float in between are compared by their ratio. Of the ratios that the machines gave for a
function and a size, the middle one on a logarithmic scale is kept, the root of the smallest times
the largest: whichever way it then speaks for, no machine's loss is larger than it would be on some
machine the other way. The table's own times are geometric means.
"""

from __future__ import annotations

import math
from pathlib import Path

MEASURED = tuple(Path(__file__).parent.parent / "docs" / "benchmarks" / name for name in (
    "costs.md", "costs_intel.md", "costs_intel_one_thread.md"))
Row = tuple[float, ...]


def read(path: Path) -> dict[str, list[float]]:
    """Microseconds by function, in the order of the sizes; NaN for what was not measured."""
    lines = path.read_text().split("| function ")[1].splitlines()[2:]
    cells = [[c.strip() for c in line.strip("| ").split("|")] for line in lines if "|" in line]
    return {name: [math.nan if v == "-" else float(v) for v in values] for name, *values in cells}


def known(values: list[float]) -> list[float]:
    return [v for v in values if not math.isnan(v)]


def combined(tables: list[dict[str, list[float]]]) -> tuple[Row, dict[str, Row]]:
    """(the table's times, the times of each function in float)."""
    look_up = [t["a table"] for t in tables]
    means = [math.exp(sum(map(math.log, known(list(at)))) / len(known(list(at))))
             for at in zip(*look_up, strict=True)]
    rows = {}
    for name in tables[0].keys() - {"a table"}:
        by_size = zip(*([f / t for f, t in zip(table[name], base, strict=True)]
                        for table, base in zip(tables, look_up, strict=True)), strict=True)
        ratios = [math.sqrt(min(known(list(r))) * max(known(list(r)))) for r in by_size]
        rows[name] = tuple(round(r * m, 1) for r, m in zip(ratios, means, strict=True))
    return tuple(round(m, 1) for m in means), rows


def worst_loss(tables: list[dict[str, list[float]]], table: Row,
               between: dict[str, Row]) -> float:
    """How many times slower the chosen way is than the other, at worst, at the measured sizes."""
    return max(f / t if table[i] >= between[name][i] else t / f
               for measured in tables for name in between
               for i, (f, t) in enumerate(zip(measured[name], measured["a table"], strict=True))
               if not math.isnan(f))


def main() -> None:
    tables = [read(path) for path in MEASURED]
    table, between = combined(tables)
    print(f"# at worst {worst_loss(tables, table, between):.2f} times slower than the other way")
    print(f"TABLE = {table}")
    for name in tables[0]:
        if name in between:
            print(f'    "{name}": {between[name]},')


if __name__ == "__main__":
    main()
