"""Whether a model compiled for native is slower than the float model it came from.

    python benchmarks/never_slower.py [MODEL ...] [--timm] [--batch 1] [--threads 2] [--rounds 12]
                                      [--iterations 3] [--nodes 6]
                                      [--markdown docs/benchmarks/never_slower.md]

Each model races against itself in float, eager and TorchScript (optimized for inference), by the
rules of `race.py`: a process for each, turn by turn. `ratio` is the time of the faster float
side over native's, a median over rounds; `spread` its 10th and 90th percentile. A model is slower
where nine of ten rounds say so; for those, the heaviest nodes of native's profile follow.
MODEL is a name of torchvision's, or `timm/NAME`; `--timm` adds those of `timm_zoo.py`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from race import OWN, Setting, race
from tabulate import tabulate
from zoo import FAMILIES

FLOATS = ("eager", "torchscript")
COLUMNS = ("model", "eager ms", "TorchScript ms", "native ms", "ratio", "spread", "slower")


def row(model: str, times: dict[str, list[tuple[float, float]]]) -> list[Any]:
    """Of the table; the float side is the one whose median is lower."""
    walls = {name: np.array(rounds)[:, 0] * 1e3 for name, rounds in times.items()}
    medians = {name: float(np.median(wall)) for name, wall in walls.items()}
    faster = min((n for n in FLOATS if n in medians), key=medians.__getitem__)
    ratios = walls[faster] / walls[OWN]
    low, high = np.percentile(ratios, (10, 90))
    return [model, *(medians.get(name, np.nan) for name in (*FLOATS, OWN)),
            float(np.median(ratios)), f"{low:.2f} - {high:.2f}", "SLOWER" if high < 1 else ""]


def heaviest(model: str, batch: int, count: int) -> str:
    """The nodes of a compiled model that take longest, with their share of the time."""
    import torch
    from common import build

    import fxq

    x, *calibration = (torch.randn(batch, 3, 224, 224) for _ in range(3))
    compiled = fxq.compile(build(model), target="native", example_inputs=(x[:1],),
                           calibration_data=calibration, verify=False)
    found = compiled.profile(x, rounds=8, budget=2)
    nodes = sorted(found.nodes, key=lambda n: -n.us)[:count]
    rows = [(n.path, n.name, n.kernel, n.us, f"{n.share:.1%}", n.float_us) for n in nodes]
    return tabulate(rows, ("path", "node", "kernel", "µs", "share", "float µs"), "github",
                    floatfmt=".0f")


def profile_apart(model: str, options: argparse.Namespace) -> str:
    """`heaviest`, in a process of its own."""
    command = [sys.executable, __file__, model, "--heaviest", "--batch", str(options.batch),
               "--nodes", str(options.nodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if not done.returncode else done.stderr[-400:]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*")
    for name, default in (("batch", 1), ("threads", 2), ("rounds", 12), ("iterations", 3),
                          ("nodes", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--timm", action="store_true")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--heaviest", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.variants, options.together = ",".join((*FLOATS, OWN)), len(FLOATS)
    options.models = options.models or [*FAMILIES]
    if options.timm:
        from timm_zoo import NAMES

        options.models += [f"timm/{name}" for name in NAMES]
    return options


def main() -> None:
    """Race each model; print what is slower, and the page where asked."""
    options = parsed()
    if options.heaviest:
        print(heaviest(options.models[0], options.batch, options.nodes))
        return
    rows, details = [], []
    for model in options.models:
        found = race(model, Setting(options.batch, options.threads, 0), options)
        times = {name: t.rounds for name, t in found.items() if t.rounds}
        if OWN not in times or len(times) == 1:
            print(model, *(t.error for t in found.values()))
            continue
        rows.append(row(model, times))
        print(*(f"{v:.2f}" if isinstance(v, float) else v for v in rows[-1]), flush=True)
        if rows[-1][-1]:
            details.append(f"`{model}`\n\n{profile_apart(model, options)}")
            print(details[-1], flush=True)
    from common import environment  # torch, which the parent does without while it races

    table = tabulate(rows, COLUMNS, "github", floatfmt=".2f")
    slower = sum(bool(r[-1]) for r in rows)
    setting = (f"Batch {options.batch}, {options.threads} threads, {options.rounds} rounds of "
               f"{options.iterations}: {slower} of {len(rows)} models are slower than float.")
    text = "\n\n".join([f"# Never slower\n\n{environment()}", str(__doc__), setting, table,
                        *details])
    print(text)
    if options.markdown:
        options.markdown.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
