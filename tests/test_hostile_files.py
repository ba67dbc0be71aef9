"""Damaged and hostile `.fxq` files: clear errors, quickly, whatever is in them."""

import hashlib
import json
import zipfile

import pytest
import torch

import fxq
from fxq.artifact.container import MEMBERS, pack, unpack
from tests.nets import ramp

X = ramp(2, 3, 16, 16)


def test_every_bit_matters(saved, tmp_path):
    """A flip of any bit, in any part of the file, is an ArtifactError (T76)."""
    content, path = saved.read_bytes(), tmp_path / "x.fxq"
    places = {0, 4, 10, 30, len(content) - 1, len(content) - 64, len(content) - 65,
              *range(0, len(content), len(content) // 97)}
    for place in places:
        broken = bytearray(content)
        broken[place] ^= 1 << (place % 8)
        path.write_bytes(broken)
        with pytest.raises(fxq.ArtifactError):
            fxq.load(path)


def resealed(path, change):
    """The file with changed members, digests made right again: what an attacker would write."""
    members = unpack(path.read_bytes(), "x")
    change(members)
    manifest = json.loads(members["manifest.json"])
    for name in MEMBERS[1:]:
        manifest["members"][name] = {"bytes": len(members[name]),
                                     "sha256": hashlib.sha256(members[name]).hexdigest()}
    members["manifest.json"] = json.dumps(manifest).encode()
    return pack(members)


def edit_graph(edit):
    def change(members):
        graph = json.loads(members["graph.json"])
        edit(graph)
        members["graph.json"] = json.dumps(graph).encode()
    return change


def edit_manifest(**entries):
    def change(members):
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | entries).encode()
    return change


def replace_in_table(old, new):
    def edit(graph):
        graph["table"] = [new if entry == old else entry for entry in graph["table"]]
    return edit_graph(edit)


HOSTILE = {
    "unknown call": replace_in_table("conv2d_relu", "os.system"),
    "attribute of torch": replace_in_table("conv2d_relu", "torch.load"),
    "dunder": replace_in_table("conv2d_relu", "__class__"),
    "zero stride": replace_in_table({"padding": 1}, {"padding": 1, "stride": 0}),
    "many groups": replace_in_table({"padding": 1}, {"padding": 1, "groups": 7}),
    "huge padding": replace_in_table({"padding": 1}, {"padding": 1 << 40}),
    "negative padding": replace_in_table({"padding": 1}, {"padding": -1}),
    "shape of lists": replace_in_table([2, 8, 4, 4], [[2], 8, 4, 4]),
    "type that is a list": replace_in_table("uint8", ["uint8"]),
    "attributes that are a text": replace_in_table({"padding": 1}, "padding"),
    "scale that is a text": edit_graph(lambda g: next(
        e for e in g["table"] if isinstance(e, dict) and "scale" in e).update(scale="")),
    "quantize of a text": edit_graph(lambda g: next(
        n for n in g["nodes"] if n[1] is not None and g["table"][n[1]] == "dequantize"
    ).__setitem__(6, ["x"])),
    "lopsided padding": replace_in_table({"padding": 1}, {"padding": [1, 1, 1]}),
    "float placed on integers": edit_graph(lambda g: g["nodes"].__delitem__(
        next(i for i, n in enumerate(g["nodes"]) if g["table"][n[1] or 0] == "quantize"))),
    "wrong shape": replace_in_table([2, 8, 4, 4], [2, 8, 4, 5]),
    "huge shape": replace_in_table([2, 3, 16, 16], [2**40, 3, 2**20, 16]),
    "wrong type": replace_in_table("uint8", "int64"),
    "unknown type": replace_in_table("uint8", "quint8"),
    "reads itself": edit_graph(lambda g: g["nodes"][5].__setitem__(6, [{"n": 5}])),
    "reads the future": edit_graph(lambda g: g["nodes"][5].__setitem__(6, [{"n": 10**6}])),
    "no output": edit_graph(lambda g: g["nodes"].pop()),
    "no nodes": edit_graph(lambda g: g.__setitem__("nodes", [])),
    "million nodes": edit_graph(lambda g: g.__setitem__("nodes", g["nodes"][:1] * 10**6)),
    "deep nest": edit_graph(lambda g: g["nodes"][5].__setitem__(
        6, json.loads("[" * 500 + "]" * 500))),
    "text missing": edit_graph(lambda g: g.__setitem__("texts", [])),
    "more inputs": edit_graph(lambda g: g["call"]["leaves"].append({"tensor": "float32"})),
    "bad names": edit_graph(lambda g: g["call"]["parameters"][0].__setitem__("name", "x y")),
    "extra entry": edit_graph(lambda g: g.__setitem__("code", "import os")),
    "duplicate key": lambda m: m.__setitem__("graph.json", m["graph.json"][:-1] + b',"texts":[]}'),
    "not a number": lambda m: m.__setitem__("graph.json", b'{"texts":[],"nodes":[NaN]}'),
    "newer format": edit_manifest(format=2), "no format": edit_manifest(format="1"),
    "unknown target": edit_manifest(target="abacus"), "unknown stage": edit_manifest(stage="RAW"),
    "foreign manifest": edit_manifest(code="import os"), "bad report": edit_manifest(report=[1]),
    "weights of nothing": lambda m: m.__setitem__("weights.safetensors", b"\\x08" + b"\\0" * 7 + b"{}      "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(saved, name, tmp_path):
    """With all digests right, what a graph must not say is still refused, and quickly (T76)."""
    (tmp_path / "x.fxq").write_bytes(resealed(saved, HOSTILE[name]))
    with pytest.raises((fxq.ArtifactError, fxq.ConfigError)):
        fxq.load(tmp_path / "x.fxq", runtime="python")


def test_resealing_alone_is_fine(saved, tmp_path):
    """The twin: the tool of the hostile tests leaves an unchanged file loadable."""
    (tmp_path / "x.fxq").write_bytes(resealed(saved, lambda members: None))
    assert torch.equal(fxq.load(tmp_path / "x.fxq", runtime="python")(X),
                       fxq.load(saved, runtime="python")(X))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("1e400")])
def test_impossible_scales(saved, scale, tmp_path):
    """A scale is positive and finite."""
    def edit(graph):
        place = next(i for i, e in enumerate(graph["table"]) if isinstance(e, list) and len(e) == 4
                     and isinstance(e[0], float))
        graph["table"][place][0] = scale if scale < 1e300 else 1e39 * 1e300

    try:
        (tmp_path / "x.fxq").write_bytes(resealed(saved, edit_graph(edit)))
    except ValueError:
        pytest.skip("JSON itself refuses it")
    with pytest.raises(fxq.ArtifactError):
        fxq.load(tmp_path / "x.fxq", runtime="python")


def test_newer_format_names_the_version(saved, tmp_path, golden):
    """One clear error for a file of the future."""
    (tmp_path / "x.fxq").write_bytes(resealed(saved, edit_manifest(format=9, fxq="7.1")))
    with pytest.raises(fxq.ArtifactError) as caught:
        fxq.load(tmp_path / "x.fxq")
    golden.check(str(caught.value).replace(str(tmp_path), "FOLDER") + "\n")


def test_other_containers_are_refused(saved, tmp_path):
    """Compressed, reordered or extra members, folders and devices are no .fxq files."""
    members = unpack(saved.read_bytes(), "x")
    for kind, names in ((zipfile.ZIP_DEFLATED, MEMBERS), (zipfile.ZIP_STORED, MEMBERS[::-1]),
                        (zipfile.ZIP_STORED, (*MEMBERS, "../evil"))):
        with zipfile.ZipFile(tmp_path / "x.fxq", "w", kind) as archive:
            for name in names:
                archive.writestr(name, members.get(name, b"x"))
            archive.comment = b"0" * 64
        body = (tmp_path / "x.fxq").read_bytes()[:-64]
        (tmp_path / "x.fxq").write_bytes(body + hashlib.sha256(body).hexdigest().encode())
        with pytest.raises(fxq.ArtifactError):
            fxq.load(tmp_path / "x.fxq")
    for path in (tmp_path, tmp_path / "nothing", "/dev/zero"):
        with pytest.raises(fxq.ArtifactError):
            fxq.load(path)
