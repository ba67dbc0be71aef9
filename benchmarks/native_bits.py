"""The zoo on the native engine: do its programs give the bits of the arithmetic that is defined?

    python benchmarks/native_bits.py [NAME | timm/NAME ...] [--timm]
                                     [--markdown docs/benchmarks/native_bits.md]

The families of `zoo.py`, and with `--timm` the models of `timm_zoo.py`, at one size each, which
is the smallest that a family takes. Each program runs beside the definition on the same inputs,
with batches of 1 and 3, one and two threads; all bits of all outputs must be equal. `no program`
names inputs that an engine refused, so that torch computed them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from common import build, environment
from tabulate import tabulate
from torch import nn
from zoo import FAMILIES

import fxq

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.fuzz.native import Checked, setting  # the suite's own checker
from tests.test_zoo import CNNS, OTHERS

SIDES = {**CNNS, **OTHERS}


def timm_model(name: str) -> tuple[nn.Module, int]:
    """(model, side): 96, unless the model takes one size only."""
    import timm_zoo  # timm may be missing

    model = timm_zoo.build(name)
    fixed = model.default_cfg.get("fixed_input_size")
    return model, model.default_cfg["input_size"][1] if fixed else 96


def model_of(name: str) -> tuple[nn.Module, int]:
    """(model, side) of a family, or of `timm/NAME`."""
    apart = name.removeprefix("timm/")
    return timm_model(apart) if apart != name else (build(name), SIDES[name])


def row(name: str, model: nn.Module, side: int) -> list[object]:
    """(model, side, programs, steps, result); raises AssertionError at the first wrong bit."""
    x = torch.randn(2, 3, side, side)
    compiled = fxq.compile(model, target="native", example_inputs=(x,), calibration_data=[x],
                           verify=False, runtime="python")
    checked = Checked(compiled)
    for batch, threads in ((1, 1), (3, 2)):
        with setting("amx", True, threads):
            checked(torch.randn(batch, 3, side, side))
    refused = sorted({p.reason for p in checked.programs if p.reason})
    return [name, side, len(checked.programs), checked.steps, "; ".join(refused)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--timm", action="store_true")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    names = options.names or [*FAMILIES]
    if options.timm:
        from timm_zoo import NAMES  # timm may be missing

        names += [f"timm/{n}" for n in NAMES]
    rows, wrong = [], 0
    for name in names:
        start = time.perf_counter()
        torch.manual_seed(0)
        try:
            found = [*row(name, *model_of(name)), "equal"]
        except AssertionError as error:
            found, wrong = [name, "", "", "", "", f"WRONG: {error}"], wrong + 1
        except Exception as error:  # a model that cannot be built or compiled is a row too
            found = [name, "", "", "", "", f"{type(error).__name__}: {error}".split("\n")[0][:120]]
            wrong += 1
        rows.append(found)
        print(*found, f"{time.perf_counter() - start:.0f} s", flush=True)
    table = tabulate(rows, ("model", "side", "programs", "steps", "no program", "bits"), "github")
    text = "\n\n".join(["# Bits of the native engine", environment(), str(__doc__).strip(),
                        f"{len(rows) - wrong} of {len(rows)} models are equal.", table])
    if options.markdown:
        options.markdown.write_text(f"{text}\n")
    print(text)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
