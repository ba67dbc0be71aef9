"""Loading native artifacts: programs are held to the outputs that the file records."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import fxq
from fxq.api import load_graph as loading
from fxq.api import load_program as programs
from fxq.artifact.container import unpack
from fxq.artifact.members import read_members
from fxq.artifact.read import open_artifact
from fxq.artifact.stored_program import read_program
from fxq.cli.artifact import inspect_artifact, verify_artifact
from fxq.kernels.native import why_not
from fxq.kernels.native.assembly import CODE, key_of
from tests.fuzz.hostile import claim, sealed
from tests.nets import Classifier, lively, ramp

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
X = ramp(2, 3, 16, 16)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(file, outputs) of a small classifier."""
    torch.manual_seed(0)
    compiled = fxq.compile(lively(Classifier()), target="native", example_inputs=(X,),
                           calibration_data=[X], calibrator="minmax", verify=False)
    path = tmp_path_factory.mktemp("native") / "model.fxq"
    compiled.save(path)
    return path, compiled(X)


@pytest.fixture
def ways(monkeypatch):
    """Which graphs a load linked: checked step by step, or not."""
    seen, model = [], loading._model
    monkeypatch.setattr(loading, "_model", lambda *args, stepwise: (
        seen.append(stepwise), model(*args, stepwise=stepwise))[1])
    return seen


def change(path, where, edit=None, **members):
    """The file at `where` with other members, digests made right; `edit` changes them in place."""
    content = {name: part for name, part in (unpack(path.read_bytes(), "x") | members).items()
               if part is not None}
    if edit:
        edit(content)
    where.write_bytes(sealed(content))
    return where


def test_a_program_is_held_to_the_recorded_outputs(saved, ways):
    """One inference is enough: its bits are the same on every machine. No graph is linked."""
    path, expected = saved
    assert open_artifact(path).manifest["check"]
    assert torch.equal(fxq.load(path)(X), expected)
    assert ways == []


def test_a_graph_is_held_to_the_recorded_outputs(saved, ways, tmp_path):
    """The same of a file without a program, as fxq wrote it before."""
    path, expected = saved
    old = change(path, tmp_path / "x.fxq", lambda m: m.update({"manifest.json": json.dumps(
        json.loads(m["manifest.json"]) | {"format": 1}).encode()}),
        **{"program.json": None, "program.safetensors": None})
    assert torch.equal(fxq.load(old)(X), expected)
    assert ways == [False]


def test_outputs_that_differ_are_checked_step_by_step(saved, ways, monkeypatch):
    """The failing twin: without a record that agrees, each kernel is compared on its own."""
    path, expected = saved
    for module in (programs, loading):
        monkeypatch.setattr(module, "check_of", lambda *_: {"outputs": "others"})
    assert torch.equal(fxq.load(path)(X), expected)
    assert ways == [False, True]


def test_wrong_kernels_are_refused(saved, monkeypatch):
    """A program that gives other bits than its graph is never handed out."""
    from fxq.runtime.native.program import Linked

    run = Linked.__call__
    monkeypatch.setattr(Linked, "__call__", lambda self, *x: tuple(y + 1 for y in run(self, *x)))
    with pytest.raises((fxq.VerificationError, fxq.ArtifactError), match="other bits|cannot run"):
        fxq.load(saved[0])


def test_texts_of_a_loaded_model_are_written_when_read(saved):
    """Both stages that a file has, as they were when it was compiled."""
    model = fxq.load(saved[0])
    assert "conv2d" in model.graph_text("REFERENCE") and "enter(" in model.graph_text("LOWERED")
    assert "dequantize" not in model.graph_text("LOWERED")


COMPILER = ("fxq.analysis.", "fxq.compiler.", "fxq.passes.", "fxq.targets.", "fxq.profiler.",
            "fxq.quantization.", "fxq.ir.ops", "fxq.ir.facts", "fxq.runtime.shape_", "safetensors",
            "tabulate", "torch._dynamo", "torch._inductor", "sympy")


def modules_after(code):
    """What a fresh process has imported of the above, beside torch's own imports."""
    report = ("import sys, torch; before = set(sys.modules); import fxq; " + code
              + f"; print([m for m in sys.modules if m not in before and m.startswith({COMPILER!r})])")
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_program_runs_without_the_compiler(saved):
    """Loading and calling import neither operator tables nor passes, targets or tools."""
    run = f"m = fxq.load({str(saved[0])!r}); m(torch.zeros(2, 3, 16, 16))"
    assert modules_after(run) == "[]"
    assert "fxq.ir.ops" in modules_after(f"{run}; m(torch.zeros(1, 3, 16, 16))")


def test_loading_a_graph_imports_no_tools(saved):
    """Nor does the graph need the profiler, the passes of a compilation, or what prints tables."""
    found = modules_after(f"fxq.load({str(saved[0])!r}, verify=False).graph_module")
    assert "fxq.compiler.link" in found
    assert not any(m in found for m in ("fxq.profiler", "tabulate", "fxq.compiler.pipeline",
                                        "fxq.passes.convert"))


def test_verify_off_runs_nothing(saved, ways, monkeypatch):
    """No inference at all: the file is linked, and that is it."""
    for module in (programs, loading):
        monkeypatch.setattr(module, "check_of", lambda *_: pytest.fail("it ran the model"))
    assert torch.equal(fxq.load(saved[0], verify=False)(X), saved[1])
    assert ways == []


def test_a_layer_that_stays_in_float_is_loaded_too(tmp_path):
    """Torch runs between two programs, and the whole is held to the record."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softmax(1), nn.Conv2d(8, 4, 3)).eval()
    compiled = fxq.compile(net, target="native", example_inputs=(X,), calibration_data=[X],
                           calibrator="minmax", verify=False)
    compiled.save(tmp_path / "mixed.fxq")
    assert torch.equal(fxq.load(tmp_path / "mixed.fxq")(X), compiled(X))
    assert "program.json" not in unpack((tmp_path / "mixed.fxq").read_bytes(), "x")


def test_other_shapes_run_by_the_graph(saved, monkeypatch):
    """Eight threads with other batches and strides: the graph is linked once, the bits are its."""
    seen, graph = [], programs._graph
    monkeypatch.setattr(programs, "_graph", lambda *args: (seen.append(1), graph(*args))[1])
    model, wanted = fxq.load(saved[0]), fxq.load(saved[0], runtime="python")
    inputs = [*(X[:1].repeat(n, 1, 1, 1) for n in range(1, 7)),
              X.to(memory_format=torch.channels_last), ramp(2, 3, 20, 18)]
    assert torch.equal(model(X), wanted(X)) and not seen
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model, inputs))
    assert all(torch.equal(y, wanted(x)) for x, y in zip(inputs, found, strict=True))
    assert seen == [1]


FORK = """
import os, sys, torch, fxq
torch.set_num_threads(2)
torch.ones(1 << 20).add(1)  # torch's pool is there
model, x = fxq.load(sys.argv[1]), torch.zeros(1, 3, 16, 16)
child = os.fork()
if child == 0:
    found = model(x)
    os._exit(not (torch.equal(found, model(x)) and torch.get_num_threads() == 2))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_the_child_of_a_fork_links_the_graph(saved):
    """torch's threads stay behind in the parent; the graph is linked without them."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK, saved[0]], check=True, timeout=300)


def test_the_program_and_the_graph_share_weights(saved):
    """The graph goes on with the program that is there, and with its packed layers."""
    model = fxq.load(saved[0])
    program = model._function.linked
    model(X[:1])
    segment = model._function.rest().function
    assert segment.programs[key_of([X])] is program
    assert set(segment.layers.values()) == set(program.program.layers)


@pytest.mark.parametrize("x", [X.half(), X.to_sparse(), X[0], X[:, :2], X.to("meta"), X[:, :, :1]],
                         ids=["type", "layout", "rank", "channels", "device", "size"])
def test_what_float_refuses_is_refused(saved, x):
    """A file's program takes what its graph takes, and says the same of all else."""
    errors = []
    for runtime in ("auto", "python"):
        with pytest.raises(fxq.InputError) as error:
            fxq.load(saved[0], runtime=runtime)(x)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("x", [
    X.clone().requires_grad_(), nn.Parameter(X), torch._neg_view(-X), X.flip(0),
    X.clone().index_fill_(3, torch.tensor([2]), torch.nan), X[:0]],
    ids=["grad", "parameter", "negative view", "flipped", "nan", "empty"])
def test_every_tensor_gives_the_bits_of_the_graph(saved, x):
    """Whatever else the recorded shape is: the graph's bits, and no gradient."""
    found, wanted = fxq.load(saved[0])(x), fxq.load(saved[0], runtime="python")(x)
    assert torch.equal(found, wanted) and not found.requires_grad


def test_saved_again_it_is_the_same_file(saved, tmp_path):
    """By its program, by its graph, or run in Python: the same bytes."""
    for options in ({}, {"verify": False}, {"runtime": "python"}):
        fxq.load(saved[0], **options).save(tmp_path / "again.fxq")
        assert (tmp_path / "again.fxq").read_bytes() == saved[0].read_bytes()


def edit_program(members, place, value):
    """Another value at a place of the program's JSON."""
    program = json.loads(members["program.json"])
    *way, last = place
    row = program
    for key in way:
        row = row[key]
    row[last] = value
    members["program.json"] = json.dumps(program).encode()


def edit_graph(members):
    """Other biases, which a program holds as numbers of its own."""
    tensors = load(members["weights.safetensors"])
    tensors |= {name: t + 1000 for name, t in tensors.items() if t.dtype == torch.int32}
    members["weights.safetensors"] = save(tensors, {"fxq": "1"})


def test_a_program_of_another_graph_is_not_used(saved, tmp_path, monkeypatch):
    """The graph was edited after the program was made: it alone is what the file says."""
    path = change(saved[0], tmp_path / "x.fxq", edit_graph)
    wanted = fxq.load(path, runtime="python", verify=False)(X)
    assert not torch.equal(wanted, saved[1])
    monkeypatch.setattr(programs, "link_stored", lambda _: pytest.fail("a stale program"))
    assert torch.equal(fxq.load(path, verify=False)(X), wanted)


def test_a_program_of_another_planner_is_not_used(saved, tmp_path, monkeypatch):
    """Another version of fxq may mean another step by the same row."""
    path = change(saved[0], tmp_path / "x.fxq", lambda m: edit_program(m, ["planner"], "0.0-0"))
    monkeypatch.setattr(programs, "link_stored", lambda _: pytest.fail("a foreign program"))
    assert torch.equal(fxq.load(path)(X), saved[1])


def test_tools_hold_the_program_to_the_graph(saved):
    """What is inspected and verified is what a load runs."""
    assert "steps" in inspect_artifact(saved[0], False)[0]
    assert "the program is the one that the graph gives" in verify_artifact(saved[0], None)


def forge(members):
    """A program that says it was made of an edited graph."""
    edit_graph(members)
    claim(members)


@pytest.mark.parametrize("edit", [forge, lambda m: edit_program(m, ("code", 0, 21), 0.5)],
                         ids=["graph", "program"])
def test_a_forged_program_is_found(saved, tmp_path, edit):
    """The failing twin: it claims its graph, and every tool that looks at both says so."""
    path = change(saved[0], tmp_path / "x.fxq", edit)
    for look in (lambda: inspect_artifact(path, False), lambda: verify_artifact(path, None),
                 lambda: fxq.load(path, verify=False).graph_module,
                 lambda: fxq.load(path, verify=False)(X[:1])):
        with pytest.raises(fxq.ArtifactError, match="not the one that the graph gives"):
            look()


def test_a_forged_program_gives_no_other_answer(saved, tmp_path):
    """The outputs are recorded, so that the graph's are what a checked load gives."""
    path = change(saved[0], tmp_path / "x.fxq", lambda m: edit_program(m, ("code", 0, 21), 0.5))
    assert torch.equal(fxq.load(path)(X), saved[1])


def test_a_program_that_keeps_its_inputs_is_told_from_one_that_does_not(saved):
    """Where a step writes into all of an input before another reads it, order says nothing."""
    program = read_program(read_members(saved[0]))
    out, first = CODE.index("out"), program.code[0][CODE.index("in")]
    row = tuple(first if i == out else v for i, v in enumerate(program.code[0]))
    assert program.keeps_inputs and not replace(program, code=(row, *program.code)).keeps_inputs


HOSTILE = {
    "unknown operator": (("code", 1, 0), 99), "a flag more": (("code", 1, 1), 1 << 20),
    "reads no view": (("code", 1, 2), 4000), "negative view": (("code", 1, 4), -2),
    "no layer": (("code", 1, 5), 7), "number too large": (("code", 1, 7), 2**31),
    "a float for a number": (("code", 1, 7), 3.0), "a truth for a number": (("code", 1, 7), True),
    "double precision": (("code", 0, 21), 0.1), "beyond float": (("code", 0, 21), 1e300),
    "short row": (("code", 1), [1, 2]), "no rows": (("code",), {}), "view outside": (
        ("views", 2, 2), 1 << 40), "negative stride": (("views", 2, 8), -16),
    "unknown weights": (("layers", 0, 0), "nobody"), "path for weights": (("layers", 0, 0), "../x"),
    "groups": (("layers", 0, 1), 3), "no group": (("layers", 0, 1), 0),
    "transposed": (("layers", 0, 3), True), "larger input": (("inputs", 0, 0, 2), 1 << 30),
    "smaller input": (("inputs", 0, 0, 2), 15), "flat input": (("inputs", 0, 0), [2, 3, 16, 16, 1]),
    "bytes for floats": (("inputs", 0, 1), 1), "no element": (("inputs", 0, 0, 0), 0),
    "larger output": (("outputs", 0, 0, 1), 6), "huge output": (("outputs", 0, 0, 1), 1 << 26),
    "other order": (("order", 0), 1), "negative order": (("order", 0), -1),
    "more outputs": (("order",), [0, 0]), "small lane": (("lane",), 64),
    "large lane": (("lane",), 1 << 40), "no image": (("images",), 0),
    "many images": (("images",), 1 << 20), "extra entry": (("code2",), []),
    "no number": (("wide",), [])}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs(saved, name, tmp_path):
    """With all digests right, what a program must not say is still refused."""
    place, value = HOSTILE[name]
    path = change(saved[0], tmp_path / "x.fxq", lambda m: edit_program(m, place, value))
    with pytest.raises(fxq.ArtifactError):
        fxq.load(path, verify=False)
