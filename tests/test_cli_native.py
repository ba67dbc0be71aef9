"""What the command line says of the native engine."""

import json

import pytest

from fxq.cli.environment import environment_text
from fxq.kernels.native import library, why_not
from fxq.targets import TARGETS, availability


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
