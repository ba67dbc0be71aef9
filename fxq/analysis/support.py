"""Which operator runs how on which target, as a page of the docs: from the tables alone."""

from __future__ import annotations

from tabulate import tabulate

from fxq.ir.ops import OPS, Kind
from fxq.kernels.calls import get_call
from fxq.kernels.rows import Kernel
from fxq.targets import TARGETS, Target

_HEAD = """# Operators

Generated from the tables in `targets/` by `make golden`. *kernel*: an integer kernel of the
engine; *table*: a table of 256 results; *function*: such a table or float between integers,
whichever `targets/costs.py` says is faster; a limit that does not hold, like a `no`, leaves the
node in float with that reason in the report. `cuda_fp16` runs every operator in half precision.

"""


def operator_page() -> str:
    """The whole of docs/operators.md."""
    targets = [t for t in TARGETS.values() if t.kernels]
    names = [op.name for op in OPS.values() if not op.base and op.kind is not Kind.SHAPE]
    rows = [[f"`{name}`", *(_cell(target, name) for target in targets)] for name in names]
    headers = ["operator", *(f"`{t.name}`" for t in targets)]
    return _HEAD + str(tabulate(rows, headers=headers, tablefmt="github")) + "\n"


def _cell(target: Target, name: str) -> str:
    if name in target.unsupported:
        return f"no: {target.unsupported[name]}"
    rows = [row for row in target.kernels if row.op == name] or target.rows(name)
    if not rows:
        return "no kernel"
    ways = dict.fromkeys(_way(target, row) for row in rows)
    absorbed = [a for a in dict.fromkeys(row.absorbs for row in rows) if a]
    common = [limit.reason for limit in (target.rows(name) or rows)[-1].limits]
    parts = [" or ".join(ways), *([f"with {', '.join(absorbed)}"] if absorbed else []),
             *([f"limits: {'; '.join(common)}"] if common else [])]
    return ", ".join(parts)


def _way(target: Target, row: Kernel) -> str:
    if target.simulates:
        return "plain integers"
    if get_call(row.call).form == "function":
        return "table" if target.plain else "function"
    return f"{row.engine} kernel" if row.engine else "kernel"
