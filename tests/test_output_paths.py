"""Outputs are checked before the work, and their folders made."""

import pytest

import fxq
from fxq.cli.compile import compile_model
from fxq.cli.output_paths import check_outputs
from fxq.system.files import write_file


def test_parents_are_made_on_writing_only(tmp_path):
    """A check leaves nothing; the file brings its folders."""
    path = tmp_path / "a" / "b" / "file"
    check_outputs(path, None)
    assert list(tmp_path.iterdir()) == []
    write_file(path, b"content")
    assert path.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["folder", "file/inside", "file/inside/deeper"])
def test_a_place_that_cannot_be_written(tmp_path, name):
    """A folder, and what would lie in a file."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(fxq.ConfigError, match="cannot be written"):
        check_outputs(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_two_outputs_need_two_names(tmp_path):
    """One would replace the other."""
    with pytest.raises(fxq.ConfigError, match="twice"):
        check_outputs(tmp_path / "x", tmp_path / "y" / ".." / "x")


@pytest.mark.parametrize("option", ["output", "save_statistics", "lock"])
def test_compile_checks_before_the_work(tmp_path, option):
    """The error comes before the model is looked up, which there is none of."""
    given = dict.fromkeys(("output", "save_statistics", "lock", "statistics"))
    with pytest.raises(fxq.ConfigError, match="cannot be written"):
        compile_model("nobody:nothing", None, "images", images=1, batch_size=1, overrides=[],
                      force=True, **{**given, option: tmp_path})


def test_a_broken_lock_is_found_before_the_work(tmp_path):
    """It is read first."""
    (tmp_path / "lock").write_text("text")
    with pytest.raises(fxq.ArtifactError, match="no lock"):
        compile_model("nobody:nothing", None, None, images=1, batch_size=1, overrides=[],
                      force=True, output=None, save_statistics=None, statistics=None,
                      lock=tmp_path / "lock")
