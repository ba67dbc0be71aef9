"""`fxq export`: a .fxq file becomes an ONNX file, and an existing one is kept."""

import pytest

from tests.command import fxq_command
from tests.helpers import compiled
from tests.nets import conv_bn_relu, ramp

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compiled file."""
    path = tmp_path_factory.mktemp("files")
    compiled(conv_bn_relu(), ramp(1, 3, 8, 8)).save(path / "m.fxq")
    return path


def test_export(folder):
    """The file is written; a second time only with --force."""
    done = fxq_command("export", "m.fxq", "-o", "new/m.onnx", cwd=folder)
    assert done.returncode == 0 and "saved new/m.onnx" in done.stdout, done.stderr
    first = (folder / "new/m.onnx").read_bytes()
    done = fxq_command("export", "m.fxq", "-o", "new/m.onnx", cwd=folder)
    assert done.returncode == 2 and "new/m.onnx exists" in done.stderr
    done = fxq_command("export", "m.fxq", "-o", "new/m.onnx", "--force", cwd=folder)
    assert done.returncode == 0 and (folder / "new/m.onnx").read_bytes() == first


@pytest.mark.parametrize("arguments, code, said", [
    (("m.fxq", "-o", "m.pt2"), 2, "its ending chooses the form"),
    (("m.fxq", "-o", "m.fxq", "--force"), 2, "its ending chooses the form"),
    (("no.fxq", "-o", "m.onnx"), 4, "no.fxq cannot be read"), (("m.fxq",), 2, "output")])
def test_what_is_refused(folder, arguments, code, said):
    """One message, its exit code, and no file."""
    before = sorted(folder.iterdir())
    done = fxq_command("export", *arguments, cwd=folder)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and sorted(folder.iterdir()) == before
