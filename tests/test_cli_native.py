"""What the command line says of the native engine."""

import json

import pytest
from PIL import Image

from fxq.cli.environment import environment_text
from fxq.kernels.native import library, why_not
from fxq.targets import TARGETS, availability
from tests.command import fxq_command


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_the_instruction_set_is_named():
    """By the list of targets, and with the machine."""
    assert availability(TARGETS["native"]) == f"yes: {library.isa()}"
    said = json.loads(environment_text(as_json=True))["native library"]
    assert said == f"built; programs are for {library.isa()}"


def test_a_missing_library_is_said(monkeypatch):
    """The failing twin: what is missing, in place of a set."""
    monkeypatch.setattr(library, "why_not", lambda: "no C++ compiler was found")
    assert availability(TARGETS["native"]) == "no: no C++ compiler was found"
    assert "missing: no C++ compiler was found" in environment_text(as_json=False)


NET = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(8, 4))
"""


@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("target, code, said", [
    ("native", 0, "tuned "), ("fbgemm", 2, "only native programs can be tuned")])
def test_tune_says_what_it_changed(target, code, said, tmp_path, monkeypatch):
    """In the report; another target is a usage error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(NET)
    (tmp_path / "images").mkdir()
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "images" / "a.png")
    done = fxq_command("compile", "mine:build", "--data", "images", "--target", target, "--tune",
                       cwd=tmp_path)
    assert done.returncode == code and said in done.stdout + done.stderr
