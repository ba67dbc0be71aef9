"""`.fxq` files: the same bits back anywhere, the same bytes every time, and no surprises."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from tests.helpers import compiled
from tests.nets import Classifier, Fn, SqueezeExcite, lively, ramp
from tests.test_docs import ROOT

X = ramp(2, 3, 16, 16)
CASES = [("fbgemm", "int8_static"), ("fbgemm", "int8_dynamic"), ("fbgemm", "int8_weight_only"),
         ("fbgemm", "fp32"), ("reference", "int8_static"), ("reference", "int16_static"),
         ("reference", "W4A8"), ("reference", "fp16"), ("reference", "bf16")]


@pytest.mark.parametrize("target, scheme", CASES)
@pytest.mark.parametrize("net", [Classifier, SqueezeExcite], ids=lambda n: n.__name__)
def test_round_trip(net, target, scheme, tmp_path):
    """Loaded models give the same bits, report and size; saved again, the same bytes."""
    model = compiled(lively(net()), X, target=target, scheme=scheme)
    model.save(tmp_path / "a.fxq")
    loaded = fxq.load(tmp_path / "a.fxq", runtime="python")
    assert torch.equal(model(X), loaded(X)) and torch.equal(model(X[:1]), loaded(X[:1]))
    assert (loaded.size_bytes, loaded.report.coverage) == (model.size_bytes, model.report.coverage)
    loaded.save(tmp_path / "b.fxq")
    assert (tmp_path / "a.fxq").read_bytes() == (tmp_path / "b.fxq").read_bytes()


@pytest.mark.parametrize("target, scheme", CASES)
def test_float_side_of_a_file(target, scheme, tmp_path):
    """The float graph behind a loaded model is close to the model that it came from."""
    net = lively(Classifier())
    compiled(net, X, target=target, scheme=scheme).save(tmp_path / "a.fxq")
    graph = fxq.load(tmp_path / "a.fxq", runtime="python").float_graph()
    names = {n.op + str(getattr(n.target, "__name__", "")) for n in graph.graph.nodes}
    assert not any("quantize" in n or "integers" in n for n in names)
    floor = {"W4A8": 12, "fp16": 40, "bf16": 30}.get(scheme, 30)  # dB: rounding of weights only
    if scheme not in ("fp16", "bf16"):  # half-precision graphs keep half-precision weights
        assert fxq.sqnr(net(X), graph(X)[0]) > floor


def test_size_on_disk(tmp_path):
    """At most 2 % and 64 kB beside the parameters."""
    net = nn.Sequential(*(nn.Conv2d(c, d, 3, padding=1) for c, d in ((3, 64), (64, 128), (128, 256))))
    model = compiled(net, X)
    model.save(tmp_path / "a.fxq")
    assert (tmp_path / "a.fxq").stat().st_size <= 1.02 * model.size_bytes + 65536


BUILD = """
import sys, torch, fxq
torch.set_num_threads(int(sys.argv[1]))
from tests.nets import Classifier, lively, ramp
torch.manual_seed(0)
x = ramp(2, 3, 16, 16)
fxq.compile(lively(Classifier()), example_inputs=(x,), statistics=fxq.Statistics.load(sys.argv[2]),
            runtime="python").save(sys.argv[3])
"""


def test_same_bytes_in_other_processes(tmp_path):
    """Another hash seed, another number of threads, another time: the same file."""
    prepared = fxq.prepare(lively(Classifier()), example_inputs=(X,))
    fxq.calibrate(prepared, [X]).save(tmp_path / "s")
    for name, seed, threads in (("a", "1", "1"), ("b", "2", "2")):
        subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD, threads, tmp_path / "s",
                        tmp_path / name], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed},
                       check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


LOAD = """
import sys, torch, fxq
from tests.nets import ramp
model = fxq.load(sys.argv[1], runtime="python")
assert not any("Classifier" in str(t) for t in map(type, model.modules()))
print(model(ramp(2, 3, 16, 16)).double().numpy().tobytes().hex())
"""


def test_loads_without_the_models_class(saved):
    """A process that never saw the class computes the same bits."""
    code = LOAD.replace("from tests.nets import ramp", "ramp = lambda *s: torch.linspace("
                        "-1.0, 1.0, 1536).reshape(s)")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, saved], check=True,
                          capture_output=True, text=True, cwd=saved.parent)
    assert done.stdout.strip() == fxq.load(saved, runtime="python")(X).double().numpy(
    ).tobytes().hex()


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@dataclass
class Result:
    logits: torch.Tensor
    label: str = "kept"


@pytest.mark.parametrize("function, read", [
    (lambda s, x: {"a": [s.c(x)], "b": 7}, lambda r: r["a"][0]),
    (lambda s, x: Pair(s.c(x), s.c(x)), lambda r: r.second),
    (lambda s, x: Result(s.c(x)), lambda r: r.logits), (lambda s, x: (s.c(x), None), lambda r: r[0])])
def test_output_structures(function, read, tmp_path):
    """Nests come back; records keep their fields, whatever their class was."""
    model = compiled(Fn(function, c=nn.Conv2d(3, 4, 1)), X)
    model.save(tmp_path / "a.fxq")
    assert torch.equal(read(model(X)), read(fxq.load(tmp_path / "a.fxq", runtime="python")(X)))


def test_calls_keep_their_signature(tmp_path):
    """Keyword arguments, defaults and flags are checked as before."""
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Conv2d(3, 4, 1)

        def forward(self, x, scale=None, *, double=False):
            return self.c(x) * 2 if double else self.c(x)

    compiled(Net(), X).save(tmp_path / "a.fxq")
    model = fxq.load(tmp_path / "a.fxq", runtime="python")
    assert torch.equal(model(x=X), model(X, None, double=False))
    with pytest.raises(fxq.ConfigError, match="was False"):
        model(X, double=True)


def test_model_code_cannot_be_saved(tmp_path):
    """An operator outside of the table is named with the user's line."""
    model = compiled(Fn(lambda s, x: torch.special.i0(s.c(x)), c=nn.Conv2d(3, 4, 1)), X)
    with pytest.raises(fxq.ArtifactError, match="i0 cannot be kept in a file") as caught:
        model.save(tmp_path / "a.fxq")
    assert "torch.special.i0" in caught.value.where and not list(tmp_path.iterdir())


def test_float_operators_of_the_table_are_saved(tmp_path):
    """What fxq leaves in float may still be written, if it is on the list."""
    net = Fn(lambda s, x: F.softmax(torch.cumsum(s.c(x), 1).exp().chunk(2, 1)[0], 1),
             c=nn.Conv2d(3, 4, 1))
    model = compiled(net, X)
    model.save(tmp_path / "a.fxq")
    assert torch.equal(model(X), fxq.load(tmp_path / "a.fxq", runtime="python")(X))


def test_nothing_is_unpickled(saved, monkeypatch):
    """Loading needs neither pickle nor torch.load (S1)."""
    def forbidden(*args, **kwargs):
        raise AssertionError("the load path must not do this")

    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load", "torch.jit.load",
                 "builtins.eval"):
        monkeypatch.setattr(name, forbidden)
    assert fxq.load(saved, runtime="python")(X).shape == (2, 5)


def test_texts_of_the_file_never_reach_source(saved):
    """Generated Python holds numbers and names that fxq made, and no text from the file."""
    from fxq.runtime.python import source_of

    source, _ = source_of(fxq.load(saved, runtime="python").graph_module)
    assert "'" not in source and '"' not in source and len(source) > 100


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack", "onednn", "x86"])
def test_loaded_models_ignore_the_global_engine(saved, engine):
    """Packing and running are those of the file's target, whatever is current."""
    from fxq.system.torch_state import using_engine

    wanted = fxq.load(saved, runtime="python")(X)
    with using_engine(engine):
        assert torch.equal(fxq.load(saved, runtime="python")(X), wanted)
        assert torch.backends.quantized.engine == engine


def test_another_target_takes_the_file(saved):
    """A machine without the engine runs the same integers on the reference target."""
    model = fxq.load(saved, target="reference", runtime="python")
    assert model.report.target == "reference"
    assert fxq.sqnr(fxq.load(saved, runtime="python")(X), model(X)) > 30


def test_missing_engine_is_named(saved, monkeypatch):
    """A host that cannot run the file says what is missing (T77)."""
    monkeypatch.setattr("fxq.targets.base.require_engine", lambda engine: (_ for _ in ()).throw(
        fxq.TargetUnavailableError(f"the engine {engine!r} is not available")))
    with pytest.raises(fxq.TargetUnavailableError, match="'fbgemm' is not available"):
        fxq.load(saved)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["os.replace", "os.fsync"])
def test_interrupted_save_keeps_the_old_file(saved, tmp_path, monkeypatch, failure, step):
    """Disk full or Ctrl-C at any step: the old file is whole, and nothing lies beside it (T75)."""
    path, model = tmp_path / "a b ü.fxq", fxq.load(saved, runtime="python")
    model.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(step, lambda *a: (_ for _ in ()).throw(failure))
    with pytest.raises((fxq.ConfigError, KeyboardInterrupt)):
        model.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_places_that_cannot_be_written(saved, tmp_path):
    """A file where a folder is wanted, or a folder of that name, is a clear error."""
    model = fxq.load(saved, runtime="python")
    (tmp_path / "folder.fxq").mkdir()
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "file" / "a.fxq", tmp_path / "folder.fxq"):
        with pytest.raises(fxq.ConfigError, match="cannot be written"):
            model.save(path)


KILLED = """
import os, signal, sys, fxq
model = fxq.load(sys.argv[1], runtime="python")
real = os.fsync
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
model.save(sys.argv[1])
"""


def test_killed_save_keeps_the_old_file(saved, tmp_path):
    """kill -9 in the middle of a save leaves the old file as it was (T75)."""
    path = tmp_path / "a.fxq"
    path.write_bytes(saved.read_bytes())
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, path], check=False)
    assert done.returncode == -9 and path.read_bytes() == saved.read_bytes()


def test_saving_over_the_file_that_is_in_use(saved, tmp_path):
    """Load, save to the same path, and run: nothing is zeroed (T74)."""
    path = tmp_path / "a.fxq"
    path.write_bytes(saved.read_bytes())
    model = fxq.load(path, runtime="python")
    wanted = model(X)
    model.save(path)
    assert torch.equal(model(X), wanted) and torch.equal(fxq.load(path, runtime="python")(X), wanted)


@pytest.mark.parametrize("head", [nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 8), nn.Identity()])
def test_outputs_of_any_layout_are_recorded(tmp_path, head):
    """Outputs in channels_last, also those whose sizes are 1, have bytes of their own."""
    x = ramp(2, 3, 8, 8)
    model = compiled(lively(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), head)), x)
    model.save(tmp_path / "a.fxq")
    assert torch.equal(fxq.load(tmp_path / "a.fxq", runtime="python")(x), model(x))


OPEN = (nn.GLU(1), nn.LocalResponseNorm(2), nn.LPPool2d(2, 2), nn.Unfold(3), nn.CircularPad2d(1),
        nn.Unflatten(1, (2, 4)), nn.RMSNorm(6), nn.InstanceNorm2d(8, affine=True),
        nn.InstanceNorm2d(8, track_running_stats=True), nn.Softmax2d(), nn.Softsign())


@pytest.mark.parametrize("layer", OPEN, ids=lambda m: type(m).__name__)
def test_modules_of_torch_are_kept(tmp_path, layer):
    """What torch's own modules call goes into a file, also what stays in float."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net = lively(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), layer))
    model = compiled(net, x)
    model.save(tmp_path / "a.fxq")
    assert torch.equal(fxq.load(tmp_path / "a.fxq", runtime="python")(x), model(x))
    assert fxq.sqnr(net(x), model(x)) > 25
