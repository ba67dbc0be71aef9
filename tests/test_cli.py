"""The command line as a user meets it: results, errors, exit codes, and an instant --help."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import fxq
from fxq.cli.errors import exit_code
from tests.command import fxq_command, fxq_process

MINE = """
from torch import nn
def build():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    net.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8, 4))
    return net
def squeezenet():
    from torchvision.models import squeezenet1_1
    return squeezenet1_1(num_classes=4)
def nothing():
    return 7
def short():
    import torch
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 8), nn.ReLU(), nn.Conv2d(8, 4, 3, 8))
def soft():
    return nn.Sequential(build(), nn.Softmax(1))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight small images, a model file of the user's own, and its weights."""
    path = tmp_path_factory.mktemp("user")
    random = np.random.default_rng(0)
    (path / "images" / "inner").mkdir(parents=True)
    for i in range(8):
        pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / "images" / "inner" / f"{i}.png")
    (path / "mine.py").write_text(MINE)
    return path


def test_help_is_instant_and_imports_no_torch():
    """`import fxq` and `fxq --help` leave torch alone."""
    code = ("import sys, fxq, fxq.cli.app\n"
            "from typer.testing import CliRunner\n"
            "result = CliRunner().invoke(fxq.cli.app.app, ['--help'])\n"
            "assert result.exit_code == 0 and 'compile' in result.output\n"
            "assert 'torch' not in sys.modules, 'torch was imported'\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_compile_prints_the_report(folder):
    """A model by factory, real image files, the report on stdout."""
    done = fxq_process("compile", "mine:build", "--data", "images", "--batch-size", "4",
                       "--runtime", "python", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "integer MACs  100.00 %" in done.stdout
    assert "2 batches" in done.stdout
    assert done.stderr == ""


def test_json_is_machine_readable(folder):
    """--json gives the report as JSON, without infinities."""
    done = fxq_command("compile", "mine:build", "--data", "images", "--runtime", "python",
                       "--json", cwd=folder)
    report = json.loads(done.stdout)
    assert report["coverage"] == 1.0
    assert report["passes"][0]["name"] == "normalize"


def test_compile_to_a_file_inspect_and_verify(folder):
    """-o writes a file, inspect reads it, verify runs it; an existing file is kept."""
    first = fxq_command("compile", "mine:build", "--data", "images", "-o", "m.fxq", "--runtime",
                        "python", cwd=folder)
    assert first.returncode == 0 and "saved m.fxq" in first.stderr
    again = fxq_command("compile", "mine:build", "-o", "m.fxq", cwd=folder)
    assert again.returncode == 2 and "m.fxq exists" in again.stderr
    shown = fxq_command("inspect", "m.fxq", "--graph", cwd=folder)
    assert "100.00 % of" in shown.stdout and "conv2d_relu" in shown.stdout
    assert json.loads(fxq_command("inspect", "m.fxq", "--json", cwd=folder).stdout)["format"] == 2
    checked = fxq_command("verify", "m.fxq", cwd=folder)
    assert checked.returncode == 0 and "equal, bit for bit" in checked.stdout


def test_verify_compares_recorded_outputs(folder):
    """Recorded outputs that are equal pass; others fail."""
    fxq_command("compile", "mine:build", "--data", "images", "-o", "r.fxq", "--runtime", "python",
                cwd=folder)
    x = torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)
    y = fxq.load(folder / "r.fxq", runtime="python")(x)
    for name, output, code in (("good", y, 0), ("bad", y + 1, 70)):
        save_file({"input": x, "output0": output}, folder / f"{name}.safetensors")
        done = fxq_command("verify", "r.fxq", "--inputs", f"{name}.safetensors", cwd=folder)
        assert done.returncode == code, done.stderr


def test_damaged_files_have_their_exit_code(folder):
    """A file that is no artifact ends with 4."""
    (folder / "x.fxq").write_text("text")
    for command in ("inspect", "verify"):
        done = fxq_command(command, "x.fxq", cwd=folder)
        assert (done.returncode, done.stdout) == (4, "") and "no .fxq file" in done.stderr


def test_statistics_are_kept_and_used_again(folder):
    """--save-statistics writes what calibration saw; --statistics needs no images."""
    options = ("--runtime", "python", "--json")
    net = ("compile", "mine:squeezenet")
    first = fxq_command(*net, "--data", "images", "--save-statistics", "s.stats", *options,
                        cwd=folder)
    again = fxq_command(*net, "--statistics", "s.stats", "--calibrator", "entropy", *options,
                        cwd=folder)
    assert (first.returncode, again.returncode) == (0, 0)
    assert "no calibration data" not in again.stderr
    assert json.loads(again.stdout)["coverage"] == 1.0


def test_overrides_and_schemes(folder):
    """--override excepts layers; any width runs on the reference target."""
    done = fxq_command("compile", "mine:build", "--data", "images", "--target", "reference",
                       "--scheme", "W4A8", "--override", "classifier.*=fp32", cwd=folder)
    assert done.returncode == 0 and "override" in done.stdout and "simulation" in done.stdout


@pytest.mark.parametrize("arguments, text", [
    (("--override", "classifier"), "is not PATTERN=SCHEME"),
    (("--save-statistics", "x"), "pass --data DIR"),
    (("--statistics", "x", "--data", "images"), "replaces --data"),
    (("--scheme", "int16_static"), "fbgemm runs:"), (("--scheme", "int8_qat"), "is trained")])
def test_contradictions_are_usage_errors(folder, arguments, text):
    """What cannot be meant is refused with exit code 2."""
    done = fxq_command("compile", "mine:build", *arguments, cwd=folder)
    assert done.returncode == 2 and text in done.stderr


def test_weights_are_loaded(folder):
    """safetensors and plain checkpoints fit; others are named."""
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(num_classes=4).state_dict()
    save_file(state, folder / "w.safetensors")
    torch.save({"state_dict": state}, folder / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        done = fxq_command("compile", "mine:squeezenet", "--weights", name, "--data", "images",
                           "--runtime", "python", cwd=folder)
        assert done.returncode == 0, done.stderr


def test_without_data_a_warning_says_so(folder):
    """Synthetic batches work, and stderr says what to do instead."""
    done = fxq_command("compile", "mine:squeezenet", "--runtime", "python", cwd=folder)
    assert done.returncode == 0
    assert "no calibration data was given" in done.stderr
    assert "synthetic" in done.stdout


def test_a_poor_result_is_said_on_stderr(folder):
    """What `compile` warns of, with options of the command line as advice."""
    done = fxq_command("compile", "mine:short", "--data", "images", "--runtime", "python",
                       "--target", "reference", "--scheme", "W2A2", cwd=folder)
    assert done.returncode == 0
    line = next(v for v in done.stderr.splitlines() if v.startswith("warning: "))
    assert "dB close to the float model's" in line and '--override "' in line
    assert "calibrator=" not in line and "FxqWarning" not in done.stderr


@pytest.mark.parametrize("arguments, code, text", [
    (["mine:biuld"], 2, "did you mean 'build'"),
    (["mine:nothing"], 2, "gave int, not a module"),
    (["yours:build"], 2, "cannot import 'yours'"),
    (["build"], 2, "names no model"),
    (["torchvision:resnet81"], 2, "did you mean"),
    (["mine:build", "--target", "fbgem"], 2, "did you mean 'fbgemm'"),
    (["mine:build", "--data", "nowhere"], 2, "no such folder"),
    (["mine:build", "--data", "."], 0, ""),
    (["mine:build", "--weights", "mine.py"], 2, "cannot be read as weights"),
    (["mine:build", "--weights", "gone.pth"], 2, "no such weights file"),
    (["mine:soft", "--data", "images", "--strict"], 3, "cannot run on integers"),
    (["mine:build", "--speed", "9"], 2, "No such option"),
])
def test_exit_codes_and_errors(folder, arguments, code, text):
    """Every mistake has a message without a traceback, and its exit code."""
    done = fxq_command("compile", "--runtime", "python", *arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name, text", [
    ("raises", "KeyError: 'no such thing', at broken.py:2"), ("exits", "ended the program with 1")])
def test_code_of_the_users_own_that_fails_exits_70(folder, name, text):
    """One sentence with the user's line; exit code 1 is a gate's alone, whatever the code does."""
    (folder / "broken.py").write_text("def raises():\n    raise KeyError('no such thing')\n"
                                      "def exits():\n    raise SystemExit(1)\n")
    done = fxq_command("compile", f"broken:{name}", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (70, "", 1)
    assert text in done.stderr and "--debug" in done.stderr


def test_a_module_with_a_syntax_error_exits_70_and_debug_shows_the_traceback(folder):
    """--debug may stand anywhere."""
    (folder / "syntax.py").write_text("def build(:\n")
    done = fxq_command("compile", "syntax:build", "--debug", cwd=folder)
    assert done.returncode == 70 and "syntax.py:1" in done.stderr and "Traceback" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_stdout_exits_70():
    """What cannot be written is an error, and not success or a failed gate."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fxq", "--version"], stdout=full, text=True,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == 70 and done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_a_reader_that_went_away_exits_70():
    """A closed pipe is told from a failed gate."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "fxq", "--help"], stdout=write, text=True,
                          stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 70 and "Broken pipe" in done.stderr


def test_the_pipeline_is_printed_with_its_reasons():
    """Each pass of the real tuple, in order, without a model."""
    from fxq.compiler.pipeline import FINISH, FUSE, HALF, PREPARE, REPAIR_STEPS

    done = fxq_command("compile", "--print-passes")
    rows = [line.split()[0] for line in done.stdout.splitlines()[2:] if "->" in line]
    assert rows == [item.name for item in (
        *FUSE, *(p for p, _ in REPAIR_STEPS), *PREPARE[len(FUSE):], *FINISH, *HALF)]
    assert "every later pass knows one spelling per operator" in done.stdout


def test_a_budget_that_cannot_be_met_fails_as_a_gate(folder):
    """Exit code 1, the limit that binds on stderr, and nothing on stdout; without data, 2."""
    (folder / "few.py").write_text("import torch\ndef load():\n"
                                   "    return [torch.linspace(-1, 1, 6144).reshape(2, 3, 32, 32)]\n")
    command = ("compile", "mine:build", "--target", "reference", "--runtime", "python",
               "--max-mb", "0.0001")
    done = fxq_command(*command, "--data", "few:load", cwd=folder)
    assert done.returncode == 1 and "max_mb=0.0001: the best is" in done.stderr and not done.stdout
    without = fxq_command(*command, cwd=folder)
    assert without.returncode == 2 and "needs calibration data" in without.stderr


def test_each_error_has_its_code():
    """The table of exit codes covers every error."""
    codes = {kind: exit_code(kind("x")) for kind in (
        fxq.TraceError, fxq.UnsupportedOpError, fxq.TargetUnavailableError, fxq.ArtifactError,
        fxq.VerificationError, fxq.ConfigError, fxq.CalibrationError, fxq.BudgetError)}
    assert list(codes.values()) == [3, 3, 3, 4, 70, 2, 2, 1]


def test_targets_lists_what_runs_here():
    """Every target is in the table."""
    done = fxq_command("targets")
    assert {"fbgemm", "reference"} <= set(done.stdout.split())
    assert done.returncode == 0


def test_version():
    """--version prints it."""
    assert fxq_command("--version").stdout.strip() == f"fxq {fxq.__version__}"


def test_demo_shows_float_beside_int8():
    """The demo trains on real digits, and int8 is about as good."""
    done = fxq_command("demo", "--epochs", "6")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("accuracy"))
    exact, small = map(float, row.split()[2:])
    assert exact > 90
    assert abs(exact - small) <= 1.5
    assert "epoch 6/6" in done.stderr
