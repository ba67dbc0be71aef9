"""What the benchmarks share: models with lively weights, torch.ao as a peer, fair races."""

from __future__ import annotations

import copy
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import fxq

warnings.filterwarnings("ignore")


def build(name: str) -> nn.Module:
    """A torchvision model, or timm's `timm/NAME`, with seeded weights and batch-norm statistics."""
    if name.startswith("timm/"):
        from timm_zoo import build as build_timm  # timm need not be installed

        return build_timm(name.removeprefix("timm/"))
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in (
        "googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    for layer in last:  # some heads start as zeros, which would hide every error
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    return model


def torch_ao(model: nn.Module, batches: Sequence[Tensor], engine: str = "fbgemm",
             mapping: Any = None) -> nn.Module:
    """torch.ao's FX workflow with its own defaults."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = engine
    prepared = prepare_fx(copy.deepcopy(model), mapping or get_default_qconfig_mapping(engine),
                          (batches[0][:1],))
    with torch.no_grad():
        for batch in batches:
            prepared(batch)
    return convert_fx(prepared)


def frozen(model: nn.Module, example: Tensor) -> Callable[..., Any]:
    """The model as frozen TorchScript, warmed up."""
    script = torch.jit.freeze(torch.jit.trace(model, example, check_trace=False))
    script(example)
    script(example)
    return script


def race(functions: dict[str, Callable[[], Any]], rounds: int = 25,
         repeats: int = 3) -> dict[str, list[float]]:
    """Seconds a call for every round; all functions take turns within each round."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    with torch.no_grad():
        for _ in range(rounds):
            for name, function in functions.items():
                function()
                start = time.perf_counter()
                for _ in range(repeats):
                    function()
                times[name].append((time.perf_counter() - start) / repeats)
    return times


def speedup(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over rounds of how many times faster `fast` is than `slow`."""
    if slow not in times or fast not in times:
        return float("nan")
    return statistics.median(s / f for s, f in zip(times[slow], times[fast], strict=True))


def environment() -> str:
    """One line that says where figures come from."""
    cpu = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if "model name" in line), cpu)
    flags = "VNNI" if torch.cpu._is_vnni_supported() else "no VNNI"
    flags += ", AMX" if torch.cpu._is_amx_tile_supported() else ""
    return (f"{cpu} ({flags}), {torch.get_num_threads()} threads, torch {torch.__version__}, "
            f"torchvision {torchvision.__version__}, fxq {fxq.__version__}")
