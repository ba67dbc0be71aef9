"""Compile every torchvision classification family, beside torch.ao on the same batches.

    python benchmarks/zoo.py [NAME ...] [--target fbgemm] [--markdown docs/benchmarks/zoo.md]

Each model runs in a process of its own. Weights are random (seeded) with lively batch-norm
statistics; four batches of four noise images calibrate both sides; SQNR is over eight others.
Latency ratios are medians over rounds in which all variants take turns, batch 1. `int8 nodes` is
the share of a lowered graph's calls that make integers, casts at the borders aside. Each model is
also run under all values of torch's process-wide engine, and must give the same bits.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FAMILIES = (
    "alexnet", "vgg11_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2",
    "densenet121", "googlenet", "inception_v3", "squeezenet1_1", "mobilenet_v2",
    "mobilenet_v3_small", "mobilenet_v3_large", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0",
    "mnasnet1_0", "regnet_x_400mf", "regnet_y_400mf", "efficientnet_b0", "convnext_tiny",
    "vit_b_16", "swin_t", "maxvit_t")
TRANSFORMERS = {"convnext_tiny", "vit_b_16", "swin_t", "maxvit_t"}


def same_bits(compiled: Any, x: Any) -> bool:
    """The process-wide engine changes nothing, and stays as it is."""
    import torch

    before, results = torch.backends.quantized.engine, []
    for engine in ("fbgemm", "x86", "onednn", "qnnpack"):
        torch.backends.quantized.engine = engine
        results.append(compiled(x))
        if torch.backends.quantized.engine != engine:
            return False
    torch.backends.quantized.engine = before
    return all(torch.equal(r, results[0]) for r in results)


def integer_share(compiled: Any) -> float:
    """Of the calls of a lowered graph, those that make integers; casts at the borders aside."""
    from fxq.ir.facts import qparams
    from fxq.kernels.calls import kernel_name

    calls = [n for n in compiled.graph_module.graph.nodes if n.op.startswith("call_")
             and kernel_name(n.target) not in ("quantize", "dequantize")]
    made = [n for n in calls if qparams(n) or "linear_float" in kernel_name(n.target)
            or "linear_relu_float" in kernel_name(n.target)]
    return len(made) / len(calls)


def measure(name: str, rounds: int, target: str) -> dict[str, Any]:
    """All columns for one model."""
    import torch
    from common import build, frozen, race, speedup, torch_ao

    import fxq

    model = build(name)
    side = 299 if name == "inception_v3" else 224
    torch.manual_seed(1)
    batches = [torch.randn(4, 3, side, side) for _ in range(4)]
    held_out, x = torch.randn(8, 3, side, side), torch.randn(1, 3, side, side)
    with torch.no_grad():
        expected = model(held_out)
    start = time.perf_counter()
    compiled = fxq.compile(model, target=target, calibration_data=batches)
    seconds = time.perf_counter() - start
    report = compiled.report
    variants = {"float": lambda: model(x)}
    options: dict[str, Any] = {"target": target, "calibration_data": batches, "verify": False}
    python = fxq.compile(model, runtime="python", **options)
    variants["fxq"] = lambda: python(x)
    row: dict[str, Any] = {"name": name, "coverage": report.coverage, "seconds": seconds,
                           "float_nodes": len(report.left_in_float),
                           "reasons": sorted({f"{r.op}: {r.code}" for r in report.left_in_float}),
                           "sqnr": fxq.sqnr(expected, compiled(held_out)),
                           "size": report.float_bytes / report.size_bytes,
                           "integers": integer_share(compiled), "same": same_bits(compiled, x)}
    try:
        script = fxq.compile(model, runtime="torchscript", **options)
        variants["fxq_script"] = lambda: script(x)
    except fxq.ConfigError as error:
        row["no_script"] = str(error.why)[:80]
    try:
        peer = torch_ao(model, batches, target)
        with torch.no_grad():
            row["peer_sqnr"] = fxq.sqnr(expected, peer(held_out))
        variants["peer"] = lambda: peer(x)
        peer_script = frozen(torch_ao(model, batches, target), x)
        variants["peer_script"] = lambda: peer_script(x)
    except Exception as error:
        row["peer_error"] = f"{type(error).__name__}: {str(error)[:80]}"
    times = race(variants, rounds)
    best = "fxq_script" if report.runtime == "torchscript" else "fxq"
    return row | {"over_float": speedup(times, "float", best),
                  "over_peer": speedup(times, "peer", "fxq"),
                  "over_peer_script": speedup(times, "peer_script", "fxq_script")}


COLUMNS = (("model", "name", "{}"), ("int8 MACs %", "coverage", "{:.2%}"),
           ("int8 nodes", "integers", "{:.1%}"), ("same bits", "same", "{}"),
           ("SQNR dB", "sqnr", "{:.1f}"),
           ("torch.ao dB", "peer_sqnr", "{:.1f}"), ("size", "size", "{:.2f}x"),
           ("vs float", "over_float", "{:.2f}x"), ("vs torch.ao Python", "over_peer", "{:.2f}x"),
           ("vs torch.ao TorchScript", "over_peer_script", "{:.2f}x"),
           ("compile s", "seconds", "{:.1f}"))


def cell(row: dict[str, Any], key: str, form: str) -> str:
    value = row.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "fails" if "peer" in key else "-"
    return form.format(value)


def table(rows: list[dict[str, Any]]) -> str:
    """The zoo as Markdown, with what stays in float below."""
    from tabulate import tabulate

    cells = [[cell(r, key, form) for _, key, form in COLUMNS] for r in rows]
    text = tabulate(cells, headers=[c[0] for c in COLUMNS], tablefmt="github",
                    disable_numparse=True)
    notes = [f"- `{r['name']}`: {', '.join(r['reasons'])}" for r in rows if r.get("reasons")]
    peers = [f"- `{r['name']}`: torch.ao ends in {r['peer_error']}" for r in rows
             if "peer_error" in r]
    scripts = [f"- `{r['name']}`: no TorchScript ({r['no_script']})" for r in rows
               if "no_script" in r]
    return "\n".join([text, "", "Left in float (operator: reason code):", "", *notes, "", *peers,
                      *scripts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--target", default="fbgemm")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.rounds, options.target)))
        return
    rows = []
    for name in options.names or FAMILIES:
        command = [sys.executable, __file__, "--one", name, "--rounds", str(options.rounds),
                   "--target", options.target]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: FAILED\n{done.stderr[-800:]}", flush=True)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{title} {cell(rows[-1], key, form)}" for title, key, form in COLUMNS),
              flush=True)
    from common import environment

    text = f"# The zoo on {options.target}\n\n{environment()}\n\n{__doc__}\n{table(rows)}\n"
    print(table(rows))
    if options.markdown:
        options.markdown.parent.mkdir(parents=True, exist_ok=True)
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()
