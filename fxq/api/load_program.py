"""Loading by the program that a file holds: its graph waits until something needs it."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from fxq.artifact.check import Input, check_of, read_ranges
from fxq.artifact.members import File, json_object
from fxq.artifact.signature import from_json
from fxq.artifact.stored_program import foreign, read_program
from fxq.compiled import CompiledModel, Insides
from fxq.errors import ArtifactError
from fxq.frontend.convention import Convention
from fxq.kernels.native import why_not
from fxq.kernels.native.assembly import Assembly
from fxq.runtime.native.linked import Linked
from fxq.runtime.native.stored import Stored, link_stored
from fxq.system.once import Once
from fxq.system.torch_state import alone_in_child_of, isolated

if TYPE_CHECKING:
    from fxq.compiler.report import Report
    from fxq.runtime.executable import Executable


def load_program(file: File, verify: bool) -> CompiledModel | None:
    """The model, where the file holds a program that runs here and gives what was recorded.

    None for all other files: those are loaded by their graph. Raises ArtifactError.
    """
    program = None if why_not() else read_program(file)
    if program is None:
        return None
    convention = _convention(file, program)
    linked = link_stored(program)
    if verify and not _gives_what_was_recorded(file, program, linked):
        return None
    process = os.getpid()

    def make() -> tuple[Executable, Insides]:
        with alone_in_child_of(process):
            return _graph(file, program, linked)

    graph = Once(make)
    stored = Stored(program, linked, lambda: graph()[0])
    return CompiledModel(stored.entry(), convention, Once(lambda: _report(file)),
                         Once(lambda: graph()[1]))


def _convention(file: File, program: Assembly) -> Convention:
    call = json_object(file.members["graph.json"], "graph.json").get("call")
    if not isinstance(call, dict):
        raise ArtifactError(f"{file.where}: graph.json has other entries than it should")
    return from_json(call, [about.dtype for about in program.inputs], len(program.order))


def _gives_what_was_recorded(file: File, program: Assembly, linked: Linked) -> bool:
    """The outputs for invented inputs have the digest that the file has for them."""
    recorded = file.manifest["check"]
    ranges = read_ranges(recorded, len(program.inputs)) or [None] * len(program.inputs)
    inputs = [Input(about.shape, about.dtype, known)
              for about, known in zip(program.inputs, ranges, strict=True)]
    with isolated():
        return bool(recorded) and recorded == check_of(linked, inputs)


def _report(file: File) -> Report:
    from fxq.compiler.report import read_report  # it imports the compiler

    return replace(read_report(file.manifest["report"]), runtime="native")


def _graph(file: File, program: Assembly, linked: Linked) -> tuple[Executable, Insides]:
    """What runs all other inputs, and what tools look at. Raises ArtifactError where the program
    is not the one that the graph gives."""
    from fxq.api.load_graph import linked_file  # it imports the compiler
    from fxq.artifact.read import open_members  # as above
    from fxq.runtime.native.program import Segment  # as above
    from fxq.targets import get_target  # as above

    executable, insides = linked_file(open_members(file), get_target("native"))
    segment = executable.function
    if not isinstance(segment, Segment) or not segment.adopt(program, linked):
        raise foreign(file.where)
    return executable, insides
