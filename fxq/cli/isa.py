"""Run one file under the kernels of older CPUs too, each in a process of its own.

FBGEMM, oneDNN and fxq's own library choose kernels when they start, by environment variables.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import fxq
from fxq.artifact.check import invented
from fxq.artifact.read import open_artifact
from fxq.compiler.verify import integers_of, step_differences
from fxq.errors import VerificationError
from fxq.kernels.native import library
from fxq.system.raw import value_bytes
from fxq.system.torch_state import isolated

ISAS: tuple[tuple[str, dict[str, str]], ...] = (
    ("this CPU", {}),
    ("AVX2 in FBGEMM", {"FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"}),
    ("AVX2 in oneDNN", {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
)
_SPREADS = (1.0, 3.0, 10.0)  # the widest drive every value to the ends of its range


@dataclass(frozen=True)
class Seen:
    """Of one process: a digest of all outputs, and how many steps its worst operator is off."""

    digest: str
    steps: int


def look(path: str) -> Seen:
    """Run a file on inputs that every process makes alike, and each operator on its own."""
    opened = open_artifact(path)
    native = opened.manifest["engine"] == "native"
    # The steps of kernels that torch calls are counted below; programs give equal bits or none.
    model = fxq.load(path, runtime="auto" if native else "python", verify=False)
    meaning = opened.module
    digest, steps = hashlib.sha256(), 0
    for seed, spread in enumerate(_SPREADS):
        generator = torch.Generator().manual_seed(seed)
        inputs = [invented(x) if x.range else (torch.randn(x.shape, generator=generator) * spread)
                  .to(x.dtype) for x in opened.inputs()]
        for value in model._flat(inputs):
            digest.update(value_bytes(value))
        if native:
            continue
        with isolated():
            found = step_differences(model.graph_module, inputs, integers_of(meaning, inputs))
        steps = max([steps, *(difference for difference, _ in found)])
    return Seen(digest.hexdigest(), steps)


def under(path: Path, variables: dict[str, str]) -> Seen:
    """What a fresh process with these variables sees; raises VerificationError."""
    done = subprocess.run([sys.executable, "-m", "fxq.cli.isa", str(path)], text=True, check=False,
                          env={**os.environ, **variables}, capture_output=True)
    if done.returncode:
        raise VerificationError(f"{path} does not run with {variables or 'no variables'}",
                                why=done.stderr.strip().split("\n")[-1][:300])
    return Seen(**json.loads(done.stdout))


def compare_isas(path: Path, isa: str) -> list[str]:
    """One line for each instruction set.

    Kernels of two CPUs may round a sum differently, by one step. Raises VerificationError when an
    operator is off by more, as one that saturates is.
    """
    expected, lines = under(path, {}), []
    for name, variables in ISAS[1:]:
        seen = under(path, variables)
        if seen.steps > 1:
            raise VerificationError(
                f"{path} computes other numbers with {name}: an operator is off by "
                f"{seen.steps} steps", why=f"the file is for {isa or 'CPUs of one kind'}: pairs "
                "of weights saturate on others", fix='compile with isa="any" (--isa any)')
        same = "outputs are equal, bit for bit" if seen.digest == expected.digest else (
            "nothing saturates; outputs differ by the rounding of single sums")
        lines.append(f"{name}: {same}")
    return lines


def compare_native(path: Path) -> list[str]:
    """One line for each instruction set below this machine's best; their bits must be equal."""
    expected, lines = under(path, {}), []
    for name in library.isas()[:-1]:
        if under(path, {"FXQ_NATIVE_ISA": name}).digest != expected.digest:
            raise VerificationError(f"{path} computes other numbers with {name}",
                                    why="the kernels of every instruction set give the same bits",
                                    fix="this is a fault of fxq; please report it")
        lines.append(f"{name}: outputs are equal, bit for bit")
    return lines


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(look(sys.argv[1]))))
