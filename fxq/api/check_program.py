"""Whether a file's program is the one that its graph gives."""

from __future__ import annotations

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.artifact.read import Opened
from fxq.artifact.read_graph import from_portable
from fxq.artifact.stored_program import foreign, read_program
from fxq.compiler.manager import Manager
from fxq.kernels.native.assembly import Assembly
from fxq.passes.lower import Lower
from fxq.runtime.native.assemble import same
from fxq.runtime.native.run import program_of
from fxq.system.torch_state import isolated, quiet
from fxq.targets import get_target


def checked_program(opened: Opened) -> Assembly | None:
    """The program of a file, held to its graph, which is lowered again; nothing runs.

    None where `fxq.load` would use none. Raises ArtifactError for a program of another graph.
    """
    program = read_program(opened.file)
    if program is None:
        return None
    module, target = from_portable(opened.portable), get_target("native")
    manager = Manager(Context(target), [], False, stage=opened.stage, recording=False)
    try:
        with isolated(), quiet():
            choose_rows(module, target)
            manager.run(module, (Lower(),))
            planned = program_of(module)
    except Exception as error:  # whatever a foreign graph makes the passes stumble over
        raise foreign(opened.file.where) from error
    if planned is None or not same(planned, program):
        raise foreign(opened.file.where)
    return program
