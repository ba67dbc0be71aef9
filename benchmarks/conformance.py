"""Every integer kernel beside an oracle in numpy: how often a result is one step off.

    python benchmarks/conformance.py [--markdown docs/benchmarks/conformance.md]

The cases are those of `tests/conformance`: one small net an operator and its parameters. The
oracle sums integers exactly, scales in double precision and rounds half to even; kernels scale in
single precision, so that values near a tie may round the other way. `0` is not one result off.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parent.parent))

from common import environment

from fxq.kernels import calls
from tests.conformance import run
from tests.conformance.cases import CASES

Counts = dict[str, list[int]]  # kernel -> [outputs, one step off, worst]


def counted(target: str) -> Counts:
    total: Counts = {}
    for case in CASES:
        compiled, inputs = run.compiled_for(case, target)
        for name, (outputs, off, worst) in run.checked(compiled, *inputs).items():
            row = total.setdefault(name, [0, 0, 0])
            row[:] = [row[0] + outputs, row[1] + off, max(row[2], worst)]
        run.PACKED.clear()
    return total


def rows(totals: dict[str, Counts]) -> Iterator[dict[str, Any]]:
    for kernel in sorted(set().union(*totals.values())):
        row: dict[str, Any] = {"kernel": kernel}
        for target, counts in totals.items():
            outputs, off, worst = counts.get(kernel, (0, 0, 0))
            row[target] = f"{off} of {outputs}" if outputs else "no such kernel"
            row["worst"] = max(worst, row.get("worst", 0))
        yield {**{k: v for k, v in row.items() if k != "worst"}, "worst step": row["worst"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    calls.prepack = run.remember  # not every engine can unpack what it packed
    totals = {target: counted(target) for target in run.TARGETS}
    every = [sum(c[i] for counts in totals.values() for c in counts.values()) for i in (0, 1)]
    text = tabulate(list(rows(totals)), headers="keys", tablefmt="github", disable_numparse=True)
    text += (f"\n\n{len(CASES)} cases on each target; {every[1]} of {every[0]} results one step"
             " off.\n")
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Conformance\n\n{environment()}\n\n{__doc__}\n{text}")


if __name__ == "__main__":
    main()
