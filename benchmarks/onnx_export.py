"""Export every torchvision classification family as ONNX, and run the files where they go.

    python benchmarks/onnx_export.py [NAME ...] [--markdown docs/benchmarks/export.md]

Weights are random (seeded) with lively batch-norm statistics; two noise images calibrate (minmax)
for `native`, whose bits are REFERENCE's. Each file passes ONNX's full check with strict shape
inference. `operators` counts those whose results are integers; each of them alone, fed with
REFERENCE's values, is run by ONNX Runtime without (`off`) and with (`on`) graph optimizations:
`worst` is the largest difference in steps of its result, `moved` how many operators have one.
`SQNR` is of the whole net's outputs against REFERENCE's, where steps add up over the layers;
`batch` says that one image alone gives what it gives beside another. OpenVINO computes in float32
what it does not compute on integers.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from zoo import FAMILIES


def openvino(path: Path, x: Any) -> Any:
    """The outputs of a file for one batch, in numpy."""
    import openvino as ov

    return ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]


def openvino_sqnr(path: Path, x: Any, expected: Any) -> str:
    """In a process of its own, which may crash."""
    import torch

    import fxq

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            found = pool.submit(openvino, path, x.numpy()).result()
        except ImportError:
            return "-"
        except BrokenProcessPool:
            return "crashes"
    return f"{fxq.sqnr(expected, torch.from_numpy(found)):.1f}"


def measure(name: str) -> dict[str, Any]:
    """All columns for one model."""
    import torch
    from common import build

    import fxq
    from tests.export.parts import reference_of, run_file, steps

    side = 299 if name == "inception_v3" else 224
    torch.manual_seed(1)
    x = torch.randn(2, 3, side, side)
    row: dict[str, Any] = {"name": name}
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        compiled = fxq.compile(build(name), target="native", calibrator="minmax",
                               calibration_data=[x], verify=False)
        try:
            compiled.export(path)
        except fxq.FxqError as error:
            names = re.findall(r"\((\w+)\): ", error.why)
            return row | {"refused": ", ".join(dict.fromkeys(names))}
        row["mb"] = path.stat().st_size / 1e6
        expected, batch = compiled(x), True
        levels = ("off", "on")
        each = steps(reference_of(compiled), [x[:1]], Path(folder), *levels)
        for level, worst in zip(levels, each, strict=True):
            found = run_file(path, [x], level)[0]
            alone = run_file(path, [x[:1]], level)[0]
            batch &= fxq.sqnr(found[:1], alone) > 100  # float32 sums in another order
            row |= {f"sqnr_{level}": fxq.sqnr(expected, found), "operators": len(worst),
                    f"worst_{level}": max(worst.values()),
                    f"moved_{level}": sum(v > 0 for v in worst.values())}
        row["batch"] = batch
        row["openvino"] = openvino_sqnr(path, x, expected)
    return row


COLUMNS = (("model", "name", "{}"), ("MB", "mb", "{:.1f}"), ("operators", "operators", "{}"),
           ("worst off", "worst_off", "{}"), ("moved off", "moved_off", "{}"),
           ("worst on", "worst_on", "{}"), ("moved on", "moved_on", "{}"),
           ("SQNR off", "sqnr_off", "{:.1f}"), ("SQNR on", "sqnr_on", "{:.1f}"),
           ("OpenVINO SQNR", "openvino", "{}"), ("batch", "batch", "{}"))


def table(rows: list[dict[str, Any]]) -> str:
    """The table, and why models are not in it."""
    from tabulate import tabulate

    cells = [[form.format(r[key]) if r.get(key) is not None else "-" for _, key, form in COLUMNS]
             for r in rows if "refused" not in r]
    text = str(tabulate(cells, headers=[c[0] for c in COLUMNS], tablefmt="github",
                        disable_numparse=True))
    refused = [f"- `{r['name']}`: {r['refused']}" for r in rows if "refused" in r]
    return "\n".join([text, *(["", "Not written (some of the operators without a row):", ""]
                              if refused else []), *refused])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    rows = []
    for name in options.names or FAMILIES:
        done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--one", name],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: FAILED\n{done.stderr[-800:]}", flush=True)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    from common import environment

    print(table(rows))
    if options.markdown:
        options.markdown.write_text(f"# The zoo as ONNX\n\n{environment()}\n\n{__doc__}\n"
                                    f"{table(rows)}\n")


if __name__ == "__main__":
    main()
