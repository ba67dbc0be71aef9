"""The order of the packages: each imports only from those below it, everywhere and at any time."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"fxq": ROOT / "fxq", "fxq.passes": ROOT / "passes", "fxq.targets": ROOT / "targets"}
FILES = sorted(p for folder in FOLDERS.values() for p in folder.rglob("*.py"))
ORDER = (  # ground floor first
    "errors", "version", "system", "quantization", "ir", "frontend", "kernels", "targets",
    "analysis", "artifact", "runtime", "export", "passes", "reconstruction", "compiler", "profiler",
    "budget", "compiled", "qat", "api", "plot", "__init__", "cli", "reproduce", "__main__")


def module_of(path):
    top = path.relative_to(ROOT).parts[0]
    parts = path.relative_to(ROOT / top).with_suffix("").parts
    return ".".join(("fxq", *(() if top == "fxq" else (top,)), *parts))


MODULES = {module_of(p).removesuffix(".__init__") for p in FILES}


def room(module):
    """The floor of a module: the first part of its name behind `fxq`, or `fxq` itself."""
    first = module.split(".")[1:2]
    return first[0] if first and first[0] in ORDER else "__init__"


def imported(tree):
    """(module, line, inside a function) of every import of fxq that is not for type checkers."""
    typing = {id(n) for block in ast.walk(tree) if isinstance(block, ast.If)
              and "TYPE_CHECKING" in ast.dump(block.test) for n in ast.walk(block)}
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [full if (full := f"{node.module}.{a.name}") in MODULES else node.module
                     for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        if id(node) not in typing:
            yield from ((name, node.lineno, id(node) in lazy) for name in names)


def arrows_up(module, source):
    """Imports of a room above the module's own."""
    floor = ORDER.index(room(module))
    return [name for name, _, _ in imported(ast.parse(source))
            if name.split(".")[0] == "fxq" and ORDER.index(room(name)) > floor]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    """No package imports one above it, inside functions neither."""
    assert not arrows_up(module_of(path), path.read_text())


def test_an_import_that_goes_up_is_found():
    """The failing twin: a pass that knows the compiler, a function that imports `fxq`."""
    assert arrows_up("fxq.passes.lower", "from fxq.compiler import manager")
    assert arrows_up("fxq.ir.ops", "def f():\n    import fxq\n")
    assert not arrows_up("fxq.compiler.manager", "from fxq.passes.base import Pass")


def graph():
    """Which module imports which, in functions too."""
    modules = {module_of(p).removesuffix(".__init__"): p for p in FILES}
    return {name: {other for found, _, _ in imported(ast.parse(path.read_text()))
                   for other in (found,) if other in modules and other != name}
            for name, path in modules.items()}


def circles(edges):
    """The modules that reach themselves."""
    def reach(start):
        seen, waiting = set(), list(edges[start])
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += edges.get(name, ())
        return seen
    return [name for name in edges if name in reach(name)]


def test_no_circle():
    """No module imports itself over others, inside functions neither."""
    assert not circles(graph())
    assert circles({"a": {"b"}, "b": {"a"}}) == ["a", "b"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_lazy_imports_have_a_reason(path):
    """An import inside a function says on its line, or above it, why it is not at the top."""
    lines = path.read_text().splitlines()
    bare = [line for _, line, lazy in imported(ast.parse("\n".join(lines)))
            if lazy and "#" not in lines[line - 1] and "#" not in lines[line - 2]]
    assert not bare, f"{path.name}: lines {bare}"


def test_the_house_is_small_at_the_top():
    """At most 16 packages, and eight files that lie in `fxq/` itself."""
    assert len(list((ROOT / "fxq").glob("*.py"))) <= 8
    assert len([p for p in (ROOT / "fxq").iterdir() if (p / "__init__.py").exists()]) <= 16


def test_torch_ao_is_known_to_one_file():
    """torch.ao is deprecated upstream: one file of the frontend reads it."""
    using = {p.name for p in FILES for name, _, _ in imported(ast.parse(p.read_text()))
             if name.startswith("torch.ao")}
    assert using <= {"torch_ao.py"}


def test_passes_know_no_concrete_target():
    """A pass reads the table of the target that it is given, and no other."""
    for path in (p for p in FILES if p.parent.name == "passes"):
        names = {name for name, _, _ in imported(ast.parse(path.read_text()))}
        assert {n for n in names if n.startswith("fxq.targets")} <= {"fxq.targets.base"}
