"""Statistics as files: the same bytes back, and clear errors for anything else."""

import json
import struct

import pytest
import torch

import fxq
from tests.helpers import compiled
from tests.nets import Classifier, lively, ramp

X = ramp(4, 3, 16, 16)


@pytest.fixture
def saved(tmp_path):
    prepared = fxq.prepare(lively(Classifier()), example_inputs=(X,))
    statistics = fxq.calibrate(prepared, [X, 2 * X])
    statistics.save(tmp_path / "a.stats")
    return statistics, tmp_path / "a.stats"


def test_round_trip_is_exact(saved, tmp_path):
    """What is read and written again has the same bytes, and gives the same model."""
    statistics, path = saved
    loaded = fxq.Statistics.load(path)
    loaded.save(tmp_path / "b.stats")
    assert path.read_bytes() == (tmp_path / "b.stats").read_bytes()
    net = lively(Classifier())
    torch.manual_seed(0)
    a, b = (fxq.compile(net, example_inputs=(X,), statistics=s, runtime="python")
            for s in (statistics, path))
    assert torch.equal(a(X), b(X))


def test_merged_parts_are_the_whole(tmp_path):
    """Two halves of the data, merged from files, give what one pass over all of it gives."""
    net, parts = lively(Classifier()), []
    for index, data in enumerate(([X], [2 * X])):
        prepared = fxq.prepare(net, example_inputs=(X,))
        fxq.calibrate(prepared, data).save(tmp_path / f"{index}.stats")
        parts.append(fxq.Statistics.load(tmp_path / f"{index}.stats"))
    whole = fxq.calibrate(fxq.prepare(net, example_inputs=(X,)), [2 * X, X])
    parts[1].merge(parts[0]).save(tmp_path / "merged.stats")
    whole.save(tmp_path / "whole.stats")
    assert (tmp_path / "merged.stats").read_bytes() == (tmp_path / "whole.stats").read_bytes()


def test_one_pass_serves_every_calibrator_scheme_and_target(saved):
    """Nothing reads data again when calibrator, scheme or target change."""
    _, path = saved
    net = lively(Classifier())
    for options in ({"calibrator": "entropy"}, {"calibrator": "auto"}, {"target": "reference"},
                    {"target": "reference", "scheme": "W4A8"}, {"overrides": {"head": "fp32"}}):
        model = fxq.compile(net, example_inputs=(X,), statistics=path, runtime="python", **options)
        assert fxq.sqnr(net(X), model(X)) > 10


@pytest.mark.parametrize("position", [0, 3, 9, 200, 2000, -1])
def test_cut_files_are_artifact_errors(saved, position):
    """A file that was cut off anywhere is refused."""
    _, path = saved
    path.write_bytes(path.read_bytes()[:position])
    with pytest.raises(fxq.ArtifactError, match="damaged"):
        fxq.Statistics.load(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 64, struct.pack("<Q", 2) + b"{}"])
def test_foreign_files_are_artifact_errors(tmp_path, content):
    """Anything that is no file of statistics is refused."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(fxq.ArtifactError):
        fxq.Statistics.load(tmp_path / "x")


def test_missing_file():
    """A path to nothing names the path."""
    with pytest.raises(fxq.ArtifactError, match="nowhere"):
        fxq.Statistics.load("nowhere.stats")


@pytest.mark.parametrize("change", [
    lambda row: row.update(minimum="nan"), lambda row: row.update(maximum="inf"),
    lambda row: row.update(batches="many"), lambda row: row.pop("minimum_sum")])
def test_impossible_numbers_are_artifact_errors(saved, change):
    """Numbers that no calibration can give are refused."""
    _, path = saved
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8: 8 + size])
    rows = json.loads(header["__metadata__"]["fxq-statistics-1"])
    change(rows["input0"])
    header["__metadata__"]["fxq-statistics-1"] = json.dumps(rows)
    new = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size:])
    with pytest.raises(fxq.ArtifactError):
        fxq.Statistics.load(path)


def test_failed_save_keeps_the_old_file(saved, monkeypatch):
    """An interrupted write leaves what was there, and no half file beside it."""
    statistics, path = saved
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        statistics.save(path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]


def test_statistics_of_another_model_are_refused():
    """Values that were never observed are named."""
    with pytest.raises(fxq.CalibrationError, match="never reached"):
        compiled(lively(Classifier()), X, statistics=fxq.Statistics.from_ranges({"x": (0, 1)}))
