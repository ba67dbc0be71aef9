"""Which class an image is: numbered folders, a map of folders, a table of files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fxq
from fxq.cli.data import DataOptions, read_data, refuse_other_classes


def net(outputs):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, outputs)).eval()


@pytest.fixture
def folder(tmp_path):
    """Two images each of a and b, one of c."""
    for name in ("a/0", "a/1", "b/0", "b/1", "c/0"):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return tmp_path / "images"


def batches(folder, **options):
    return read_data(DataOptions(str(folder), batch_size=8, **options), 8)


def labels(folder, **options):
    (_, found), = batches(folder, **options)
    return found.tolist()


def table(folder, text, name="labels.csv"):
    path = folder.parent / name
    path.write_text(text)
    return path


def test_folders_are_numbered_by_name(folder):
    """In order, when there is one for each output."""
    assert labels(folder) == [0, 0, 1, 1, 2]
    refuse_other_classes(net(3), batches(folder))


@pytest.mark.parametrize("outputs", [2, 4, 1000])
def test_another_number_of_folders_is_refused(folder, outputs):
    """Their numbers would not be the model's classes; the error says what to pass."""
    with pytest.raises(fxq.ConfigError, match="3 class folders, the model") as caught:
        refuse_other_classes(net(outputs), batches(folder))
    assert "--class-map" in str(caught.value) and "--labels" in str(caught.value)


def test_a_part_of_the_images_keeps_the_numbers(folder):
    """Two of five images: of a and b, not of the first classes that were met."""
    (_, found), = batches(folder, images=2)
    assert found.tolist() == [0, 1]
    assert batches(folder, images=2).of.folders == 3


def test_labels_none_and_folders_of_folders_have_no_classes(folder):
    """`train/cats` and `test/cats` are no two classes."""
    assert torch.is_tensor(next(iter(batches(folder, labels="none"))))
    assert torch.is_tensor(next(iter(batches(folder.parent))))


@pytest.mark.parametrize("header", ["", "file,class_index\n"])
def test_a_table_of_files(folder, header):
    """Only its files, with its numbers, whatever folders they lie in."""
    path = table(folder, f"{header}b/0.png,7\na/1.png,2\n")
    assert labels(folder, labels=str(path)) == [7, 2]
    refuse_other_classes(net(8), batches(folder, labels=str(path)))
    with pytest.raises(fxq.ConfigError, match="class 7 of 0.png is no output"):
        refuse_other_classes(net(7), batches(folder, labels=str(path)))


@pytest.mark.parametrize("text, message", [
    ("a/0.png,1\na/0.png,1\n", "twice"), ("a/0.png,1\nnone.png,1\n", "do not exist"),
    ("a/0.png,-1\n", "no class index"), ("a/0.png,cat\nb/0.png,dog\n", "no class index"),
    ("a/0.png\n", "no rows"), ("", "no rows")])
def test_tables_that_are_refused(folder, text, message):
    """Duplicates, files that are not there, indices that are none."""
    with pytest.raises(fxq.ConfigError, match=message):
        batches(folder, labels=str(table(folder, text)))


@pytest.mark.parametrize("name, text", [
    ("map.json", json.dumps({"a": 5, "b": 0, "c": 9, "more": 1})),
    ("map.csv", "folder,class\na,5\nb,0\nc,9\n")])
def test_a_map_of_folders(folder, name, text):
    """JSON or CSV; names that are not there may be in it."""
    assert labels(folder, class_map=table(folder, text, name)) == [5, 5, 0, 0, 9]
    with pytest.raises(fxq.ConfigError, match="class 9"):
        refuse_other_classes(net(9), batches(folder, class_map=folder.parent / name))


@pytest.mark.parametrize("text, message", [
    ('{"a": 0, "b": 1}', "does not name 1 of 3 folders: c"), ("[1]", "no class map"),
    ('{"a": 0, "a": 1, "b": 1, "c": 2}', "twice"), ("{", "no JSON"),
    ('{"a": 0.5, "b": 1, "c": 2}', "no class index"), ('{"a": true, "b": 1, "c": 2}', "no class")])
def test_maps_that_are_refused(folder, text, message):
    """Folders without a number, numbers that are none."""
    with pytest.raises(fxq.ConfigError, match=message):
        batches(folder, class_map=table(folder, text, "map.json"))


def test_options_that_contradict(folder):
    """Two sources, and a loader that has labels of its own."""
    path = table(folder, "a/0.png,1\n")
    with pytest.raises(fxq.ConfigError, match="drop one"):
        batches(folder, labels=str(path), class_map=path)
    with pytest.raises(fxq.ConfigError, match="images in a folder"):
        read_data(DataOptions("mine:loader", labels=str(path)), 8)


def test_labels_that_are_no_class_of_the_model(folder):
    """In Python too: fxq.compare names the label and the number of outputs."""
    model, x = net(3), torch.randn(4, 3, 8, 8)
    compiled = fxq.compile(model, example_inputs=(x,), calibration_data=[x], runtime="python")
    with pytest.raises(fxq.ConfigError, match="label 3 is no class"):
        fxq.compare(model, compiled, [(x, torch.tensor([0, 1, 2, 3]))])
