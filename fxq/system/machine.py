"""What figures and bits depend on: the machine and the versions.

torch is imported where it is asked for, so that a machine without it can still be described.
"""

from __future__ import annotations

import platform
from pathlib import Path

from fxq.version import __version__


def environment() -> dict[str, str]:
    """CPU, its instruction sets, threads, and versions, as plain texts."""
    facts = {"cpu": cpu_name(), **_torch_facts(), "fxq": __version__,
             "python": platform.python_version(), "system": platform.system()}
    return {k: v for k, v in facts.items() if v}


def _torch_facts() -> dict[str, str]:
    try:
        import torch  # heavy, and perhaps not there
    except ModuleNotFoundError:
        return {"torch": "not installed: pip install torch"}
    except (ImportError, OSError) as error:  # a library that it needs is missing
        return {"torch": f"cannot be imported: {str(error)[:200]}"}
    known = _capabilities()
    wanted = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8")
    return {"instructions": ", ".join(k for k in wanted if known.get(k)),
            "threads": str(torch.get_num_threads()), "torch": str(torch.__version__),
            "engines": ", ".join(map(str, torch.backends.quantized.supported_engines)),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none"}


def _capabilities() -> dict[str, bool]:
    import torch  # heavy

    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return known


def has_vnni() -> bool:
    """This CPU adds four products of 8 bits in 32 bits."""
    known = _capabilities()
    return bool(known.get("avx512_vnni") or known.get("avx_vnni"))


def cpu_facts() -> dict[str, bool]:
    """What results of float operators, and of saturating kernels, depend on."""
    known = _capabilities()
    return {name: bool(known.get(name)) for name in ("avx2", "avx512_f", "avx512_vnni",
                                                     "avx512_bf16")}


def is_native(half: str) -> bool:
    """This CPU multiplies numbers of that half precision itself."""
    known = _capabilities()
    wanted = {"bfloat16": ("avx512_bf16", "amx_bf16"), "float16": ("avx512_fp16", "amx_fp16")}
    return any(known.get(name) for name in wanted.get(half, ()))


def cpu_name() -> str:
    """The processor, as the system names it."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            names = (line.split(":", 1)[1].strip() for line in lines
                     if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
