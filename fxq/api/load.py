"""`fxq.load`: a compiled model from a file, linked to this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fxq.artifact.members import read_members
from fxq.compiled import CompiledModel

if TYPE_CHECKING:  # importing it takes longer than loading a file that holds its program
    from fxq.targets import Target


def load(path: str | Path, *, target: str | Target | None = None, runtime: str = "auto",
         verify: bool = True, operators: Sequence[str] = ()) -> CompiledModel:
    """Load a compiled model, in a process that need not know the model's class.

    `target` overrides the one that it was compiled for, where this machine lacks its engine.
    `runtime="auto"` measures the runtimes on this machine. `verify` holds the outputs of native
    programs to those that the file records, whose bits are the same on every machine. Of other
    targets, and where the file records none or torch's float kernels here give others, it compares
    each kernel of this machine with the file's integers, step by step, where all values of a run
    take less than 1 GB together: that takes several times longer. (The file does not say which
    runtime was faster where it was compiled: the same model gives the same bytes.) `operators`
    names those of installed plugins that the file may hold: a file alone makes none of them load.
    A file that holds a native program runs it for inputs like the example's; its graph is read,
    checked and lowered when something else first needs it, which may then raise ArtifactError.
    Raises ArtifactError for a file that is damaged, foreign or too new, and
    TargetUnavailableError, with what is missing, for a machine that cannot run it.
    """
    if operators:
        from fxq.frontend.operators import load_operator  # it imports the operators

        for name in operators:
            load_operator(name)
    file = read_members(path)
    if target in (None, "native") and runtime in ("auto", "native"):
        from fxq.api.load_program import load_program  # other targets do without

        model = load_program(file, verify)
        if model is not None:
            return model
    from fxq.api.load_graph import load_graph  # it imports the compiler

    return load_graph(file, target, runtime, verify)
