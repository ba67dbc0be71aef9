"""`fxq profile`, `compare`, `debug`, `plan`, `check`, `explain`, `env`, `--config`, FXQ_LOGS."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from tests.command import fxq_command

MINE = """
import torch
from torch import nn
def images():
    return torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(1))
@torch.no_grad()
def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten(), nn.Linear(8, 2)).eval()
    margin = net(images()).diff(dim=1).median()
    net[4].bias += torch.tensor([margin, 0.0])  # as many images of one class as of the other
    return net
@torch.no_grad()
def loader():
    return [(x, build()(x).argmax(1)) for x in images().split(8)]
def bright():
    return [100 * images()]
def guesses():
    return [(x, torch.arange(8) % 2) for x in images().split(8)]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's module, images in one folder per class, and a compiled file."""
    path = tmp_path_factory.mktemp("user")
    (path / "mine.py").write_text(MINE)
    random = np.random.default_rng(0)
    for name in ("ants", "bees"):
        (path / "images" / name).mkdir(parents=True)
        for i in range(2):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / "images" / name / f"{i}.png")
    done = fxq_command("compile", "mine:build", "--data", "mine:loader", "-o", "mine.fxq",
                       cwd=path)
    assert done.returncode == 0, done.stderr
    return path


def ran(folder, *arguments, code=0):
    done = fxq_command(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("model", ["mine:build", "mine.fxq"])
def test_profile_takes_models_and_files(folder, model):
    """Both print the table; -o writes the form that the ending asks for."""
    done = ran(folder, "profile", model, "--data", "mine:loader", "--rounds", "5",
               "-o", "profile.html")
    assert "nodes together" in done.stdout
    assert (folder / "profile.html").read_text().startswith("<!doctype html>")


def test_profile_as_json(folder):
    """Machines get the same rows."""
    done = ran(folder, "profile", "mine.fxq", "--rounds", "5", "--json")
    assert len(json.loads(done.stdout)["nodes"]) > 3


def test_unknown_form_is_an_error(folder):
    """The endings that are known are named, before any work: the model need not exist."""
    done = ran(folder, "profile", "missing.fxq", "-o", "profile.xyz", code=2)
    assert ".html" in done.stderr


def test_compare_with_labels_and_without(folder):
    """Folders of classes have labels; a file needs its model."""
    done = ran(folder, "compare", "mine:build", "--data", "images")
    assert "top-1" in done.stdout
    assert "worst first" in done.stdout
    assert "pass --model" in ran(folder, "compare", "mine.fxq", code=2).stderr
    ran(folder, "compare", "mine.fxq", "--model", "mine:build", "--data", "mine:loader", "--json")


def test_check_is_a_gate(folder):
    """Exit code 1 when a limit does not hold, 0 when all do, 2 when nothing is asked."""
    ok = ran(folder, "check", "mine:build", "--data", "mine:loader", "--max-mb", "1",
             "--min-sqnr", "10", "--max-drop", "60")
    assert ok.stdout.count("ok") == 3
    assert "FAILED" in ran(folder, "check", "mine.fxq", "--max-mb", "0.0001", code=1).stdout
    wrong = ran(folder, "check", "mine:build", "--data", "mine:guesses", "--max-drop", "100", code=1)
    assert "near chance" in wrong.stdout
    assert "nothing to check" in ran(folder, "check", "mine.fxq", code=2).stderr


def test_explain_says_what_each_pass_did(folder):
    """One node, and why it is what it is; a pattern that matches nothing is an error."""
    done = ran(folder, "explain", "mine:build", "--data", "mine:loader", "--node", "0")
    assert "convert: on integers" in done.stdout
    assert "fuse-activation" in done.stdout
    assert "no node matches" in ran(folder, "explain", "mine.fxq", "--node", "zz",
                                    code=2).stderr


def test_plan_needs_no_data(folder, monkeypatch):
    """Every pair has a row."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    done = ran(folder, "plan", "torchvision:squeezenet1_1", "--target", "fbgemm", "--scheme",
               "int8_static", "--scheme", "fp16")
    assert "100.0 %" in done.stdout
    assert "int8" in done.stdout


def test_env_names_machine_and_targets(folder):
    """As a table and as JSON."""
    assert "target x86" in ran(folder, "env").stdout
    assert "targets" in json.loads(ran(folder, "env", "--json").stdout)


def test_config_file_sets_options_and_flags_win(folder):
    """The keys are those of Python; an unknown one has a did-you-mean."""
    (folder / "fxq.toml").write_text('target = "qnnpack"\nscheme = "int8_static"\n'
                                     '[overrides]\n"4" = "fp32"\n')
    text = ran(folder, "compile", "mine:build", "--data", "mine:loader", "--config",
               "fxq.toml", "--json").stdout
    assert json.loads(text)["target"] == "qnnpack"
    assert dict(json.loads(text)["configuration"])["overrides"] == "4=fp32"
    text = ran(folder, "compile", "mine:build", "--data", "mine:loader", "--config", "fxq.toml",
               "--target", "x86", "--json").stdout
    assert json.loads(text)["target"] == "x86"
    (folder / "bad.toml").write_text('targt = "x86"\n')
    done = ran(folder, "compile", "mine:build", "--config", "bad.toml", code=2)
    assert "did you mean 'target'" in done.stderr


def test_logs_are_silent_until_asked_for(folder, monkeypatch):
    """FXQ_LOGS=+passes,calibrate; unknown topics are named."""
    arguments = ("compile", "mine:build", "--data", "mine:loader")
    assert "fxq.passes" not in ran(folder, *arguments).stderr
    monkeypatch.setitem(os.environ, "FXQ_LOGS", "+passes,calibrate,pases")
    err = ran(folder, *arguments).stderr
    assert "fxq.passes: normalize" in err
    assert "fxq.calibrate: batch 1" in err
    assert "not pases" in err


@pytest.mark.parametrize("arguments", [("mine:build",), ("mine.fxq", "--model", "mine:build")])
def test_debug_of_a_clean_model(folder, arguments, tmp_path):
    """No fault, exit code 0; -o leaves the node that matters most, which runs by itself."""
    case = tmp_path / "case"
    text = ran(folder, "debug", *arguments, "--data", "mine:loader", "-o", str(case)).stdout
    assert text.startswith("no node is further from float")
    assert (case / "node.json").exists() and (case / "graph.txt").exists()
    assert "exists" in ran(folder, "debug", *arguments, "-o", str(case), code=2).stderr
    assert "pass --model" in ran(folder, "debug", "mine.fxq", code=2).stderr


def test_debug_names_a_fault_and_fails(folder):
    """Images of 100 times the calibrated range: the input's format is at fault, exit code 1."""
    text = ran(folder, "debug", "mine.fxq", "--model", "mine:build", "--data", "mine:bright",
               "--json", code=1).stdout
    found = json.loads(text)
    assert found["first"] == "input0:quantize"
    assert "outside of its range" in found["nodes"][0]["cause"]


def test_help_lists_every_command(folder):
    """And still imports no torch (see test_cli)."""
    text = ran(folder, "--help").stdout
    assert all(name in text for name in ("profile", "compare", "debug", "plan", "check",
                                     "explain", "env"))


@pytest.mark.parametrize("ratios, holds", [([3.0] * 12, True), ([3.0, 1.0] * 6, False)])
def test_a_speedup_inside_the_noise_fails_the_gate(monkeypatch, ratios, holds):
    """The median is 2 or more on both; only one of them is above 1.5 in its whole interval."""
    from types import SimpleNamespace

    from fxq.cli.gates import gates

    monkeypatch.setattr("fxq.cli.gates.turns", lambda *_, **__: [ratios, [1.0] * len(ratios)])
    about = SimpleNamespace(example=lambda: None, model=print, compiled=None)
    gate, = gates(about, None, 1.5, None, None)
    assert gate.holds is holds
    assert "[" in gate.found


def test_advice_on_a_file_cannot_be_confirmed(folder):
    """There is no model to compile again."""
    done = ran(folder, "profile", "mine.fxq", "--rounds", "5", "--confirm", code=2)
    assert "cannot be confirmed" in done.stderr
