"""What is installed: public names, import directions, a lean import, a wheel that works."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fxq

ROOT = Path(__file__).parent.parent
PACKAGES = {"fxq": ROOT / "fxq", "fxq.passes": ROOT / "passes", "fxq.targets": ROOT / "targets"}
FILES = sorted(p for folder in PACKAGES.values() for p in folder.rglob("*.py"))


@cache
def distributions():
    """Of each installed name; finding them reads every file list."""
    return dict(metadata.packages_distributions())


def test_every_public_name_is_there():
    """__all__ is sorted by kind, complete, and importable."""
    assert set(fxq.__all__) == set(fxq._HOME)
    assert all(getattr(fxq, name) is not None for name in fxq.__all__)
    with pytest.raises(AttributeError, match="no attribute 'complie'"):
        fxq.complie  # noqa: B018


def test_import_needs_no_torch():
    """`import fxq` is instant."""
    code = "import sys, fxq; assert 'torch' not in sys.modules; assert fxq.__version__"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scripts_hide_no_package():
    """A script's folder comes first on the path: a file there must not hide an installed name."""
    known = set(distributions()) | set(sys.stdlib_module_names)
    scripts = {p.stem for folder in ("benchmarks", "examples") for p in (ROOT / folder).iterdir()}
    assert not scripts & known


def test_versions_agree():
    """pyproject and the package name one version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == fxq.__version__


def test_quantized_kernels_have_one_home():
    """torch.ops.quantized and the quantized dtypes appear in one file."""
    using = [p.name for p in FILES if any(word in p.read_text() for word in (
        "torch.ops.quantized.", "torch.quint8", "getattr(torch.ops.quantized"))]
    assert set(using) <= {"calls.py", "printer.py", "torch_ao.py"}


def test_the_door_from_torch_ao_is_opened_when_used():
    """No file imports it at its top."""
    tops = [n.module for p in FILES for n in ast.parse(p.read_text()).body
            if isinstance(n, ast.ImportFrom)]
    assert len(tops) > 100 and "fxq.frontend.torch_ao" not in tops


def test_every_pass_has_one_name():
    """File, name and test share it; the class is the same in camel case."""
    from fxq.compiler.pipeline import FINISH, HALF, PREPARE

    for item in (*PREPARE, *FINISH, *HALF):
        stem = item.name.replace("-", "_")
        assert type(item).__module__ == f"fxq.passes.{stem}"
        assert type(item).__name__.lower() == stem.replace("_", "")
        assert (ROOT / "tests" / "passes" / f"test_{stem}.py").exists()
        assert (ROOT / "passes" / f"{stem}.py").read_text().startswith(f'"""{item.name}: ')


def test_public_docstrings():
    """Every public function and class of the packages says what it is."""
    missing = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        nodes = [tree, *(n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)
                         and not n.name.startswith("_"))]
        missing += [f"{path.name}:{getattr(n, 'name', 'module')}" for n in nodes
                    if not ast.get_docstring(n)]
    allowed = {"facts.py:set_info", "facts.py:set_qparams", "integers.py:qparams_kwargs",
               "rewriter.py:is_pure", "rewriter.py:PassResult",
               "__main__.py:module"}
    assert set(missing) <= allowed


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = {Requirement(line).name for line in PROJECT["dependencies"]}
OPTIONAL = {Requirement(line).name for lines in PROJECT["optional-dependencies"].values()
            for line in lines}
PICTURES = "plot.py"  # itself an optional module: `fxq.plot` needs matplotlib


def third_party(nodes):
    """Distributions that import statements among these nodes name."""
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names} | {
        n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    tops = {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {"fxq"}
    known = distributions() | {"PIL": ["torchvision"]}  # which brings Pillow
    return {known.get(top, [top])[0] for top in tops}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_imported_is_declared(path):
    """At the top of a file: a dependency. Inside a function: one, or an extra."""
    tree = ast.parse(path.read_text())
    allowed = NEEDED | ({"matplotlib"} if path.name == PICTURES else set())
    assert third_party(tree.body) <= allowed
    assert third_party(list(ast.walk(tree))) <= allowed | OPTIONAL


def closure(names):
    """Distributions with all that they require, extras aside."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        needs = [Requirement(line) for line in metadata.requires(name) or ()]
        waiting += [n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
    return found


def clean_environment(folder, wheel, names):
    """A Python that sees the wheel and the distributions of `names`, and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for name in closure(names):
        for top in {file.parts[0] for file in metadata.files(name) or ()} - {"..", "__pycache__"}:
            source = metadata.distribution(name).locate_file(top)
            if not (site / top).exists():
                (site / top).symlink_to(source)
    zipfile.ZipFile(wheel).extractall(site)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder),
                    str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.parametrize("command, shown", [
    ("--help", "compile"), ("targets", "fbgemm"), ("env", "target fbgemm"),
    ("demo --epochs 1", "accuracy %")])
def test_the_wheel_runs_with_its_declared_dependencies(wheel, tmp_path, command, shown):
    """In an environment that holds what the wheel declares, in an empty folder."""
    python = clean_environment(tmp_path / "venv", wheel, NEEDED)
    done = subprocess.run([python, "-I", "-m", "fxq", *command.split()], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout and "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_torch_env_says_so(wheel, tmp_path):
    """env is what one runs when something is missing; other commands name what is."""
    python = clean_environment(tmp_path / "venv", wheel, NEEDED - {"torch"})
    run = lambda *c: subprocess.run([python, "-I", "-m", "fxq", *c], cwd=tmp_path,  # noqa: E731
                                    capture_output=True, text=True, check=False)
    assert run("--help").returncode == 0
    done = run("env")
    assert done.returncode == 0 and "not installed" in done.stdout, done.stderr
    done = run("targets")
    assert done.returncode == 3 and "torch is not installed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_directory(tmp_path):
    """Built, installed beside torch, imported and run outside of the checkout."""
    run = lambda *c: subprocess.run(c, cwd=tmp_path, check=True, capture_output=True)  # noqa: E731
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", "dist", str(ROOT))
    wheel = next((tmp_path / "dist").glob("*.whl"))
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", "site", str(wheel))
    code = ("import sys; sys.path.insert(0, 'site'); import fxq, fxq.passes.lower, fxq.targets, "
            "torch; assert 'site' in fxq.__file__ and 'site' in fxq.passes.__file__; "
            "m = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1)); x = torch.randn(1, 3, 4, 4); "
            "print(fxq.compile(m, example_inputs=(x,), calibration_data=[x])(x).shape)")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert "[1, 4, 4, 4]" in done.stdout, done.stderr


def test_every_package_is_installed():
    """A folder that is missing in pyproject.toml is missing in wheels, and nowhere else."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "fxq").rglob("*.py")}
    assert found | {"fxq.passes", "fxq.targets"} == set(named)
