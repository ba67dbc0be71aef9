"""What figures depend on: the machine and the versions. Works without torch, and says so."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import fxq


def environment() -> dict[str, str]:
    """CPU, its instruction sets, threads, and versions, as plain texts."""
    facts = {"cpu": _cpu_name(), **_torch_facts(), "fxq": fxq.__version__,
             "python": platform.python_version(), "system": platform.system()}
    return {k: v for k, v in facts.items() if v}


def _torch_facts() -> dict[str, str]:
    try:
        import torch
    except ModuleNotFoundError:
        return {"torch": "not installed: pip install torch"}
    except (ImportError, OSError) as error:  # a library that it needs is missing
        return {"torch": f"cannot be imported: {str(error)[:200]}"}
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    wanted = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8")
    return {"instructions": ", ".join(k for k in wanted if known.get(k)),
            "threads": str(torch.get_num_threads()), "torch": str(torch.__version__),
            "engines": ", ".join(map(str, torch.backends.quantized.supported_engines)),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}


def environment_text(as_json: bool) -> str:
    """The machine, its versions, and which targets it can run."""
    facts, here = environment(), _targets()
    if as_json:
        return json.dumps({**facts, "targets": here}, indent=2)
    rows = [*facts.items(), *((f"target {name}", value) for name, value in here.items())]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _targets() -> dict[str, str]:
    """ "yes", or "no" with what is missing, by the target's name; none without torch."""
    try:
        from fxq.targets import TARGETS, availability
    except (ImportError, OSError):
        return {}
    return {name: availability(target) for name, target in TARGETS.items()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
