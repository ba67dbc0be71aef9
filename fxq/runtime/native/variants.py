"""How the steps of programs are computed on this machine, where `tune` has measured it.

Kept by the digest of a program, which holds its shapes, in one file for each processor, instruction
set, number of threads and version. Whatever the file says, bits are the same: numbers that are no
variants are not taken, and the library checks them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fxq.kernels.native import library
from fxq.kernels.native.build import interface
from fxq.kernels.native.structs import VARIANTS
from fxq.system.cache import cache_file, keep_cache, read_cache
from fxq.system.machine import cpu_name
from fxq.version import __version__


def digest_of(code: Sequence[library.Instruction], views: Sequence[library.View],
              images: int) -> str:
    """Of a program by the rules, for so many images."""
    parts = (str(images).encode(), *map(bytes, code), *map(bytes, views))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def known(digest: str, steps: int) -> list[int]:
    """The variant of each step; 0, the rule, where nothing was measured."""
    found = _kept(_file()).get(digest)
    rule = [0] * steps
    if not isinstance(found, list) or len(found) != steps:
        return rule
    return found if all(type(v) is int and v in VARIANTS for v in found) else rule


def keep(digest: str, variants: Sequence[int]) -> None:
    """For this process, and in the file for others."""
    path = _file()
    _kept(path)[digest] = list(variants)
    keep_cache(path, {**read_cache(path), digest: list(variants)})


def _file() -> Path:
    facts = (_cpu(), library.isa(), str(torch.get_num_threads()), str(_interface()), __version__)
    return cache_file("tuned", facts)


_cpu, _interface = cache(cpu_name), cache(interface)


@cache
def _kept(path: Path) -> dict[str, Any]:
    return read_cache(path)
