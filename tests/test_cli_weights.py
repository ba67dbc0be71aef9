"""Where weights come from: random ones are loud, foreign ones refused, DEFAULT the library's."""

import json
import os
import sys
import types
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

import fxq
from fxq.cli.data import DataOptions
from fxq.cli.measure import subject
from fxq.cli.models import Loaded, load_model
from fxq.cli.weights import refuse_other_weights
from tests.helpers import compiled
from tests.nets import Classifier, lively, ramp
from tests.test_cli import fxq_command

NAME = "torchvision:squeezenet1_1"
X = ramp(2, 3, 16, 16)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's cache with the file that torchvision would fetch for squeezenet1_1."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    torch.manual_seed(3)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, folder / os.path.basename(url))
    return state


def test_names_alone_have_random_weights():
    """A factory's are its own business."""
    assert load_model(NAME).weights == "random"
    assert load_model("tests.nets:Classifier").weights == ""


def test_default_asks_the_library(cache):
    """The cached file's weights, and the preprocessing that goes with them."""
    loaded = load_model(NAME, "DEFAULT")
    assert loaded.weights == "pretrained" and not loaded.model.training
    assert all(torch.equal(v, cache[k]) for k, v in loaded.model.state_dict().items())
    assert loaded.preprocess.crop_size == [224]


def test_a_download_that_fails_is_an_error(tmp_path, monkeypatch):
    """What, from where, why, and what to do instead."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(url, *arguments, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(fxq.ConfigError, match="cannot be fetched from https") as caught:
        load_model(NAME, "DEFAULT")
    assert "no route to host" in caught.value.why and "--weights FILE" in caught.value.fix


def test_default_needs_a_library():
    """A factory has no defaults."""
    with pytest.raises(fxq.ConfigError, match="no default weights"):
        load_model("tests.nets:Classifier", "DEFAULT")


def test_default_of_timm(monkeypatch):
    """timm's own calls, with a module that stands for it where it is not installed."""
    made = []

    def create_model(name, pretrained):
        made.append((name, pretrained))
        return Classifier()

    data = types.SimpleNamespace(resolve_model_data_config=lambda model: {"input_size": (3, 8, 8)},
                                 create_transform=lambda **given: lambda image: given)
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(
        list_models=lambda: ["net", "bare"], create_model=create_model, data=data,
        is_model_pretrained=lambda name: name == "net"))
    loaded = load_model("timm:net", "DEFAULT")
    assert made == [("net", True)] and loaded.weights == "pretrained"
    assert loaded.preprocess(None) == {"input_size": (3, 8, 8), "is_training": False}
    assert load_model("timm:net").weights == "random"
    with pytest.raises(fxq.ConfigError, match="no weights for bare"):
        load_model("timm:bare", "DEFAULT")


def lacking(state):
    return {k: v for k, v in state.items() if k != "head.bias"}


def wrapped(state):
    return {f"module.{k}": v for k, v in state.items()}


def reshaped(state):
    return state | {"head.weight": torch.zeros(7, 3)}


@pytest.mark.parametrize("change, message", [
    (lacking, "1 missing: head.bias"), (lambda s: s | {"more": torch.zeros(1)}, "not of the mod"),
    (wrapped, "remove 'module.'"), (reshaped, "7x3"), (lambda s: {"model": s}, "under 'model'")])
def test_a_file_with_other_names_or_shapes(tmp_path, change, message):
    """Missing, unexpected, wrapped, of another shape: all named, and what it may be."""
    torch.save(change(Classifier().state_dict()), tmp_path / "w.pth")
    with pytest.raises(fxq.ConfigError, match="does not belong") as caught:
        load_model("tests.nets:Classifier", tmp_path / "w.pth")
    assert message in str(caught.value)


@pytest.mark.filterwarnings("ignore:the outputs for the example inputs")  # weights of two bits
@pytest.mark.parametrize("scheme, target", [
    ("int8_static", "fbgemm"), ("int8_weight_only", "x86"), ("W2A8", "reference"),
    ("fp16", "reference")])
def test_a_model_s_own_weights_are_known(tmp_path, scheme, target):
    """Of any number of bits, with pairs made safe or not; and other ones are not."""
    net = lively(Classifier())
    compiled(net, X, scheme=scheme, target=target, isa="any").save(tmp_path / "m.fxq")
    loaded = fxq.load(tmp_path / "m.fxq", runtime="python")
    refuse_other_weights("m.fxq", loaded, "net", Loaded(net), X[:1])
    other = lively(Classifier())
    for module in other.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    with pytest.raises(fxq.ConfigError, match="was not compiled from net"):
        refuse_other_weights("m.fxq", loaded, "net", Loaded(other), X[:1])


def test_another_network_is_refused(tmp_path):
    """Layers that it has not."""
    loaded = compiled(lively(Classifier()), X)
    with pytest.raises(fxq.ConfigError, match="no layer"):
        refuse_other_weights("m.fxq", loaded, "net", Loaded(nn.Sequential(nn.Conv2d(3, 4, 1))),
                             X[:1])


def test_wrong_weights_beside_a_file_end_with_2(tmp_path, cache):
    """compare and profile; and weights without a model that they are for."""
    good, wrong = tmp_path / "good.pth", tmp_path / "wrong.pth"
    torch.save(cache, good)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), wrong)
    file, x = str(tmp_path / "m.fxq"), torch.zeros(1, 3, 224, 224)
    fxq.compile(load_model(NAME, good).model, scheme="int8_weight_only", example_inputs=(x,),
                runtime="python").save(file)
    assert subject(file, NAME, str(good), DataOptions()).model is not None
    for weights in (str(wrong), None):
        with pytest.raises(fxq.ConfigError, match="was not compiled from"):
            subject(file, NAME, weights, DataOptions())
    with pytest.raises(fxq.ConfigError, match="needs --model"):
        subject(file, None, str(good), DataOptions())


def test_random_weights_are_loud(tmp_path):
    """On stderr, in the text, the JSON, the file, and the page of a profile."""
    done = fxq_command("compile", NAME, "--scheme", "int8_weight_only", "--runtime", "python",
                       "-o", "deep/m.fxq", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" in done.stderr and "RANDOM WEIGHTS" in done.stderr
    assert "RANDOM" in done.stdout
    assert fxq.load(tmp_path / "deep" / "m.fxq", runtime="python").report.weights == "random"
    seen = fxq_command("profile", "deep/m.fxq", "--rounds", "5", "--json", "-o", "p/p.html",
                       cwd=tmp_path)
    assert json.loads(seen.stdout)["weights"] == "random" and "RANDOM WEIGHTS" in seen.stderr
    assert "RANDOM" in (tmp_path / "p" / "p.html").read_text()


def test_given_weights_are_quiet(capsys, tmp_path):
    """A file's weights need no warning; the report says that there was one."""
    torch.save(Classifier().state_dict(), tmp_path / "w.pth")
    loaded = load_model("tests.nets:Classifier", tmp_path / "w.pth")
    assert loaded.weights == "file" and capsys.readouterr().err == ""
