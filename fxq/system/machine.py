"""What figures depend on: the machine and the versions."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from fxq.version import __version__


def environment() -> dict[str, str]:
    """CPU, its instruction sets, threads, and versions, as plain texts."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    wanted = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8")
    facts = {"cpu": _cpu_name(), "instructions": ", ".join(k for k in wanted if known.get(k)),
             "threads": str(torch.get_num_threads()), "torch": str(torch.__version__),
             "fxq": __version__, "python": platform.python_version(),
             "system": platform.system(),
             "engines": ", ".join(map(str, torch.backends.quantized.supported_engines)),
             "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}
    return {k: v for k, v in facts.items() if v}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def has_vnni() -> bool:
    """This CPU adds four products of 8 bits in 32 bits."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_vnni") or known.get("avx_vnni"))


def cpu_facts() -> dict[str, bool]:
    """What results of float operators, and of saturating kernels, depend on."""
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return {name: bool(known.get(name)) for name in ("avx2", "avx512_f", "avx512_vnni",
                                                     "avx512_bf16")}
