"""Other packages add to fxq by entry points: `tests/plugin/` is one; and those that may not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import fxq
from fxq.artifact.forms import _operator
from fxq.compiler.lock import first_difference, read_lock
from fxq.frontend.operators import load_operators
from fxq.ir.ops import Op
from fxq.quantization.calibrators import get_calibrator
from fxq.system import plugins
from fxq.targets import get_target
from tests.command import python_command
from tests.helpers import compiled
from tests.nets import Classifier, lively, ramp

X = ramp(2, 3, 16, 16)
COMPILE = """
import json, torch, fxq
from fxq_toy.net import batches, make
net, (x,) = make(), batches()
compiled = fxq.compile(net, target="toy", calibrator="shrunk:0.95", runtime="interpreted",
                       passes=("fuse-silu",), example_inputs=(x,), calibration_data=[x],
                       lock="fxq.lock")
compiled.save("toy.fxq")
again = fxq.load("toy.fxq", target="toy")
print(json.dumps({"float": compiled.report.left_in_float, "sqnr": fxq.sqnr(net(x), compiled(x)),
                  "runtime": compiled.report.runtime, "graph": compiled.graph_text(),
                  "same": torch.equal(again(x), compiled(x))}))
"""
LOAD = """
import json, sys, fxq
def tried(**options):
    try:
        outcome = fxq.load("toy.fxq", **options).report.target
    except fxq.ArtifactError as error:
        outcome = str(error)
    return outcome, sorted(name for name in sys.modules if name.startswith("fxq_toy"))
print(json.dumps([tried(), tried(target="reference"),
                  tried(target="reference", operators=("bump",)), tried()]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the plugin installed in `site`, and a way to run a command there."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(Path(__file__).parent / "plugin", folder / "source")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
                    "--no-build-isolation", "--target", folder / "site", folder / "source"],
                   check=True)
    return folder


def start(home, *arguments):
    return python_command(*arguments, cwd=home,
                          environment={"PYTHONPATH": str(home / "site"), "PATH": ""})


def fxq_of(home, *arguments):
    return start(home, "-m", "fxq", *arguments)


def run(home, *arguments):
    done = start(home, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def used(home):
    """What a program that uses every part of the plugin prints; its file and lock stay there."""
    return json.loads(run(home, "-c", COMPILE))


def test_a_package_adds_one_of_everything(used):
    """Target, call, operator, calibrator, runtime and pass, all from outside, all used."""
    assert used["float"] == [] and used["same"] and used["sqnr"] > 35
    assert used["runtime"] == "interpreted"
    assert "table_hardswish(" in used["graph"] and "sigmoid" not in used["graph"]
    assert used["graph"].count("= bump(") == 2  # as a module and as a function


def test_plugins_in_use_are_in_the_lock(home, used):
    """With owner and version; nothing that is merely installed."""
    owner = "of fxq-toy-plugin 1.0"
    assert json.loads((home / "fxq.lock").read_text())["plugins"] == [
        f"fxq.calibrators:shrunk {owner}", f"fxq.operators:bump {owner}",
        f"fxq.passes:fuse-silu {owner}", f"fxq.runtimes:interpreted {owner}",
        f"fxq.targets:toy {owner}"]


def test_the_text_of_a_file_loads_no_plugin(home, used):
    """A file that names a plugin's target and operator, beside that very plugin: only on request."""
    plain, other, asked, again = json.loads(run(home, "-c", LOAD))
    assert "calls 'bump'" in plain[0] and "calls 'bump'" in other[0]
    assert plain[1] == other[1] == []  # no module of the plugin was imported
    assert asked[0] == "reference" and asked[1]
    assert "'toy', which is not loaded" in again[0] and "fxq_toy.target" not in again[1]


def test_the_command_line_takes_plugins(home):
    """The same names as options."""
    out = run(home, "-m", "fxq", "compile", "fxq_toy.net:make", "--data", "fxq_toy.net:batches",
              "--target", "toy", "--pass", "fuse-silu", "--calibrator", "shrunk:0.9", "--runtime", "interpreted", "--json")
    report = json.loads(out)
    assert (report["target"], report["runtime"]) == ("toy", "interpreted")
    assert "fuse-silu" in [row["name"] for row in report["passes"]]


def test_the_command_line_loads_what_it_is_told(home, used):
    """A file that names plugins is refused without them, and runs with them."""
    done = fxq_of(home, "verify", "toy.fxq")
    assert done.returncode == 4 and "fxq --plugin NAME" in done.stderr
    done = fxq_of(home, "--plugin", "bump", "--plugin", "toy", "verify", "toy.fxq")
    assert done.returncode == 0 and "equal, bit for bit" in done.stdout, done.stderr


@pytest.mark.parametrize("command", ["targets", "env"])
def test_plugins_are_listed_with_their_owner(home, command):
    """Of every group, by `fxq targets` and `fxq env`."""
    lines = [line for line in run(home, "-m", "fxq", command).splitlines()
             if "fxq-toy-plugin 1.0" in line]
    assert [sum(group in line for line in lines) for group in plugins.GROUPS] == [1] * 5


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs packages of one module each, for this test."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.syspath_prepend(tmp_path)

    def add(package, entry, source=""):
        group, name, value = entry
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {package}:{value}\n")
        (tmp_path / f"{package}.py").write_text(source)
        monkeypatch.delitem(sys.modules, package, raising=False)
        plugins.plugins.cache_clear()

    yield add
    plugins.plugins.cache_clear()


LOOK_UP = {plugins.TARGETS: get_target, plugins.CALIBRATORS: get_calibrator,
           plugins.OPERATORS: lambda name: load_operators(),
           plugins.RUNTIMES: lambda name: compiled(lively(Classifier()), X, runtime=name),
           plugins.PASSES: lambda name: compiled(lively(Classifier()), X, passes=(name,))}


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_two_packages_with_one_name_are_refused(install, group):
    """By owner, before either is imported."""
    for package in ("twin_a", "twin_b"):
        install(package, (group, "same", "X"), "raise SystemExit('imported')")
    with pytest.raises(fxq.ConfigError, match="twin_a and twin_b both claim the name"):
        LOOK_UP[group]("same")


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_a_plugin_that_fails_on_import(install, group):
    """Its owner is in the error, and what it raised."""
    install("broken_one", (group, "broken", "X"), "1 / 0")
    with pytest.raises(fxq.ConfigError, match="of broken_one 1.0 cannot be imported") as info:
        LOOK_UP[group]("broken")
    assert "ZeroDivisionError" in str(info.value) and "uninstall broken_one" in str(info.value)


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_a_plugin_of_another_kind(install, group):
    """An entry point that points at something else."""
    install("odd_one", (group, "odd", "X"), "X = 7")
    with pytest.raises(fxq.ConfigError, match="odd_one:X is a int"):
        LOOK_UP[group]("odd")


@pytest.mark.parametrize("group, name", [
    (plugins.TARGETS, "fbgemm"), (plugins.TARGETS, "auto"), (plugins.CALIBRATORS, "mse"),
    (plugins.CALIBRATORS, "auto"), (plugins.OPERATORS, "relu"), (plugins.RUNTIMES, "python"),
    (plugins.PASSES, "lower")])
def test_a_plugin_never_takes_a_name_of_fxq(install, group, name):
    """What fxq has comes first, and where that cannot be, the plugin is refused; unimported."""
    install("thief", (group, name, "X"), "raise SystemExit('imported')")
    if group == plugins.PASSES:
        with pytest.raises(fxq.ConfigError, match="fxq's own"):
            LOOK_UP[group](name)
    elif group == plugins.OPERATORS or name == "auto":
        with pytest.raises(fxq.ConfigError, match=r"of thief 1.0 hides a name of fxq's own"):
            LOOK_UP[group](name)
    else:
        LOOK_UP[group](name)


TARGET = """
from dataclasses import replace
from fxq.targets.fbgemm import FBGEMM
X = replace(FBGEMM, name="other")
"""


def test_an_object_with_another_name(install):
    """Files and locks have the object's name, which must lead back to the plugin."""
    install("misnamed", (plugins.TARGETS, "mine", "X"), TARGET)
    with pytest.raises(fxq.ConfigError, match="calls itself 'other'"):
        get_target("mine")


RUNTIME = """
from fxq.runtime.python import build
from fxq.runtime.select import Runtime
def wrong(module, inputs):
    right = build(module)
    return lambda *x: tuple(y + {more} for y in right(*x))
X = Runtime("mine", wrong)
"""


@pytest.mark.parametrize("more", [0, 1e-3])
def test_a_runtime_that_changes_the_numbers(install, more):
    """It is compared with Python, bit for bit, before it is used."""
    install("hasty", (plugins.RUNTIMES, "mine", "X"), RUNTIME.format(more=more))
    if more == 0:
        assert compiled(lively(Classifier()), X, runtime="mine").report.runtime == "mine"
        return
    with pytest.raises(fxq.VerificationError, match="runtime 'mine' changes the numbers"):
        compiled(lively(Classifier()), X, runtime="mine")


def test_names_that_nobody_has():
    """The error of each says where such a name would come from."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with pytest.raises(fxq.ConfigError, match="no installed package adds a pass 'fuse-silu'"):
        compiled(net, X, passes=("fuse-silu",))
    with pytest.raises(fxq.ConfigError, match="no installed package adds the operator 'bump'"):
        fxq.load("nothing.fxq", operators=("bump",))


def test_locks_from_before_plugins_still_hold(tmp_path):
    """They lack the entry, and stand for none; a plugin more is a difference."""
    torch.manual_seed(0)
    compiled(lively(Classifier()), X, lock=tmp_path / "fxq.lock")
    old = json.loads((tmp_path / "fxq.lock").read_text())
    assert old.pop("plugins") == []
    (tmp_path / "fxq.lock").write_text(json.dumps(old))
    torch.manual_seed(0)
    compiled(lively(Classifier()), X, lock=tmp_path / "fxq.lock")
    before = read_lock(tmp_path / "fxq.lock")
    assert first_difference(before, before | {"plugins": ["fxq.targets:toy of t 1.0"]}) == (
        "plugins differ: none was fxq.targets:toy of t 1.0")


@pytest.mark.parametrize("kinds, value, allowed", [
    ({}, None, True), ({}, "rm -rf", False), ({}, 3, False), ({"how": "int?"}, 3, True),
    ({"how": "int?"}, "rm -rf", False)])
def test_what_a_file_may_hold_of_a_plugin_row(kinds, value, allowed):
    """Where neither the row nor fxq's names say, nothing but the default of None."""
    row = Op("mine", torch.sin, ("stuff",), {"how": None, "much": 1.5, "flag": False}, kinds=kinds)
    form = _operator(row)
    call = {"how": value, "much": 2, "flag": True}
    assert (form.refusal((torch.ones(1),), call) is None) == allowed
    assert form.refusal((torch.ones(1),), {"much": "x"}) and form.refusal((3,), {})
