"""Damaged and hostile `.fxq` files: clear errors, quickly, whatever is in them."""

import hashlib
import json
import zipfile

import pytest
import torch
import typer
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from typer.testing import CliRunner

import fxq
from fxq.artifact.compact import compact, expand
from fxq.artifact.container import MEMBERS, pack, unpack
from fxq.cli import commands
from fxq.cli.app import app
from fxq.cli.artifact import inspect_artifact
from fxq.cli.errors import exit_code
from fxq.ir.printer import format_graph
from fxq.runtime.python import source_of
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
    for name in members.keys() - {"manifest.json"}:
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
    "newer format": edit_manifest(format=3), "no format": edit_manifest(format="1"),
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


def loads(tmp_path, content, **options):
    (tmp_path / "x.fxq").write_bytes(content)
    return fxq.load(tmp_path / "x.fxq", runtime="python", **options)


def test_names_of_arguments_run_no_code(saved, tmp_path):
    """A keyword that is Python source is refused, before and by the generator."""
    name = f"**({{}} if open({str(tmp_path / 'ran')!r}, 'w') else {{}}))#"
    change = edit_graph(lambda g: next(e for e in g["table"] if isinstance(e, dict)
                                       and "kernel_size" in e).update({name: 1}))
    with pytest.raises(fxq.ArtifactError, match="no name of an argument"):
        loads(tmp_path, resealed(saved, change))
    graph = torch.fx.Graph()
    graph.output((graph.call_function(torch.relu, (graph.placeholder("x"),), {name: 1}),))
    with pytest.raises(ValueError, match="no name of an argument"):
        source_of(torch.fx.GraphModule(torch.nn.Module(), graph))
    assert not (tmp_path / "ran").exists()


def test_paths_of_modules_run_no_code(saved, tmp_path):
    """A path is a label: torch.fx's own source, in which constants have names, holds none of it."""
    text = 'a"),open("ran","w"),getattr(self,"'
    change = edit_graph(lambda g: g.__setitem__("texts", [text] * len(g["texts"])))
    assert text not in loads(tmp_path, resealed(saved, change)).graph_module.code


def test_texts_cannot_drive_a_terminal(saved, tmp_path):
    """Escape sequences and overrides of a file are shown as what they are, everywhere."""
    text = "\x1b[2J\u202egreen\n"
    change = edit_graph(lambda g: g.__setitem__("texts", [text] * len(g["texts"])))
    model = loads(tmp_path, resealed(saved, change))
    assert "\x1b" not in str(model.graph_module.code) + format_graph(model.graph_module)
    assert r"\x1b[2J\u202egreen\n" in format_graph(model.graph_module)
    named = loads(tmp_path, resealed(saved, edit_manifest(fxq=text)))
    assert named is not None and "\x1b" not in inspect_artifact(tmp_path / "x.fxq", True)[0]
    assert "\x1b" not in str(fxq.ArtifactError(text, why=text))


COMMANDS = {"inspect": app, "verify": app, **dict.fromkeys(("profile", "compare", "debug", "check",
                                                           "explain"))}
GATES = {"check": ["--max-mb", "9"]}
MANIFEST = {"report": {}, "cpu": [1], "target": [1], "engine": 5, "stage": [], "fxq": None,
            "torch": {}, "check": "x", "members": []}


@pytest.mark.parametrize("entry", MANIFEST)
@pytest.mark.parametrize("command", COMMANDS)
def test_entries_of_the_wrong_type(saved, entry, command, tmp_path):
    """Every command refuses a manifest whose entry has another type, with exit code 4."""
    def change(members):
        manifest = json.loads(members["manifest.json"])
        members["manifest.json"] = json.dumps(manifest | {entry: MANIFEST[entry]}).encode()

    members = unpack(saved.read_bytes(), "x")
    change(members)
    (tmp_path / "x.fxq").write_bytes(pack(members))
    measuring = typer.Typer()
    commands.register(measuring)
    shell, arguments = COMMANDS[command] or measuring, GATES.get(command, [])
    result = CliRunner().invoke(shell, [command, str(tmp_path / "x.fxq"), *arguments])
    assert isinstance(result.exception, fxq.ArtifactError), result.output
    assert exit_code(result.exception) == 4


def test_reports_have_types_too(saved, tmp_path):
    """A figure that is a text, and a list that is none, are no report."""
    report = json.loads(unpack(saved.read_bytes(), "x")["manifest.json"])["report"]
    for change in ({"macs": "many"}, {"left_in_float": 1}, {"sqnr": [1]}, {"target": None},
                   {"macs": 10**400}, {"left_in_float": [{"path": 1}]}):
        with pytest.raises(fxq.ArtifactError, match="report"):
            loads(tmp_path, resealed(saved, edit_manifest(report=report | change)))


def rows_of(graph):
    """A graph that reads one input and calls what the test says."""
    def change(members):
        rows = [{"op": "placeholder", "shape": [2, 3, 16, 16], "dtype": "float32"}, *graph,
                {"op": "output", "args": [{"tuple": [{"n": len(graph)}]}]}]
        old = json.loads(members["graph.json"])
        members["graph.json"] = json.dumps(old | compact(rows)).encode()
    return change


def call(name, *args, op="call_function", shape=None, **kwargs):
    made = {} if shape is None else {"shape": shape, "dtype": "float32"}
    return {"op": op, "call": name, "args": list(args), "kwargs": kwargs, "path": 0, **made}


X0, X1 = {"n": 0}, {"n": 1}
GREEDY = {
    ("power of literals", "reads nothing computed"): [call("operator.pow", 7, 10**9)],
    ("power of a size", "larger than 2.31"): [call("size", X0, dim=0), call("operator.pow", X1, 10**9)],
    ("formatted text", "reads nothing computed"): [call("operator.mod", "%10000000000d", 5)],
    ("list times number", "cannot take this a"): [call("size", X0), call("operator.mul", X1, 10**9)],
    ("repeat", "a result of"): [call("repeat", X0, 10**5, 10**5, 1, 1, op="call_method",
                    shape=[2 * 10**5, 3 * 10**5, 16, 16])],
    ("pad", "a result of"): [call("pad", X0, pad={"tuple": [10**7, 10**7]}, shape=[2, 3, 16, 16 + 2 * 10**7])],
    ("interpolate", "a result of"): [call("interpolate", X0, size=10**6, shape=[2, 3, 10**6, 10**6])],
    ("expand", "a result of"): [call("unsqueeze", X0, dim=0, shape=[1, 2, 3, 16, 16]),
               call("expand", X1, 10**6, -1, -1, -1, -1, op="call_method",
                    shape=[10**6, 2, 3, 16, 16])],
    ("hidden padding", "a result of"): [call("functional.local_response_norm", X0, 2**30, shape=[2, 3, 16, 16])],
    ("equation", "cannot take this equation"): [call("torch.einsum", "a" * 10**6, X0, shape=[2, 3, 16, 16])],
    ("unknown mode", "cannot take this mode"): [call("pad", X0, pad={"tuple": [1, 1]}, mode="x" * 9,
                          shape=[2, 3, 16, 18])],
    ("huge number", "cannot take this other"): [call("add", X0, 2**40, shape=[2, 3, 16, 16])],
    ("in place", "no argument 'inplace'"): [call("functional.selu", X0, inplace=True, shape=[2, 3, 16, 16])],
    ("unknown attribute", "no argument 'momentum'"): [call("relu", X0, momentum=1, shape=[2, 3, 16, 16])],
    ("missing attribute", "it lacks threshold"): [call("threshold", X0, shape=[2, 3, 16, 16])],
    ("alive at once", "at once"): [call("repeat", X0, 1, 80, 16, 16, op="call_method", shape=[2, 240, 256, 256])
                      for _ in range(40)]}


UNFIT = {
    "dimension": [call("softmax", X0, dim=2**31, shape=[2, 3, 16, 16])],
    "integers": [call("size", X0, dim=0), call("torch.gt", X0, 0.0) | {
        "shape": [2, 3, 16, 16], "dtype": "bool"},
        call("sigmoid", {"n": 2}) | {"shape": [2, 3, 16, 16], "dtype": "bool"}]}


@pytest.mark.parametrize("name", UNFIT)
def test_rules_refuse_what_torch_would(saved, name, tmp_path):
    """What only fails when it is run, because no rule looked, is refused when it is read."""
    with pytest.raises(fxq.ArtifactError, match="cannot be run"):
        loads(tmp_path, resealed(saved, as_float(rows_of(UNFIT[name]))))


@pytest.mark.parametrize(("name", "reason"), GREEDY)
def test_greedy_graphs(saved, name, reason, tmp_path):
    """What would fill memory or time, or is not in a call's row, is refused before it is made."""
    with pytest.raises(fxq.ArtifactError, match=reason):
        loads(tmp_path, resealed(saved, as_float(rows_of(GREEDY[name, reason]))))


def as_float(change):
    def both(members):
        change(members)
        manifest = json.loads(members["manifest.json"]) | {"stage": "FUSED", "check": {}}
        members["manifest.json"] = json.dumps(manifest).encode()
    return both


def test_modest_graphs(saved, tmp_path):
    """The twin: the same calls with modest arguments load and run."""
    graph = [call("size", X0, dim=0), call("operator.pow", X1, 3),
             call("repeat", X0, {"n": 2}, 1, 1, 1, op="call_method", shape=[16, 3, 16, 16]),
             call("pad", {"n": 3}, pad={"tuple": [1, 1]}, shape=[16, 3, 16, 18])]
    assert loads(tmp_path, resealed(saved, as_float(rows_of(graph))))(X).shape == (16, 3, 16, 18)


def change_scales(edit):
    def change(members):
        tensors = load_tensors(members["weights.safetensors"])
        edit(tensors)
        rows = expand(json.loads(members["graph.json"]))
        for row in rows:
            if row.get("tensor"):
                tensor = tensors[row["tensor"]]
                row |= {"shape": list(tensor.shape), "dtype": str(tensor.dtype)[6:]}
            if row.get("call") == "dequantize_weight" and "axis" in tensors and (
                    rows[row["args"][0]["n"]]["tensor"] == "stem_0_weight_int8"):
                row["kwargs"] = {"axis": 1}
        tensors.pop("axis", None)
        graph = json.loads(members["graph.json"]) | compact(rows)
        members["graph.json"] = json.dumps(graph).encode()
        members["weights.safetensors"] = save_tensors(tensors, {"fxq": "1"})
    return change


SCALES = {"zero": 0.0, "negative": -1.0, "infinite": float("inf"), "none": float("nan")}
WEIGHTS = {
    **{name: lambda t, v=value: t["block_conv1_weight_scale"].fill_(v)
       for name, value in SCALES.items()},
    "too few": lambda t: t.update(block_conv1_weight_scale=torch.ones(3)),
    "of another axis": lambda t: t.update(axis=torch.ones(1), stem_0_weight_scale=torch.ones(3)),
    "of two dimensions": lambda t: t.update(block_conv1_weight_scale=torch.ones(8, 1)),
    "of double": lambda t: t.update(block_conv1_weight_scale=torch.ones(8).double()),
    "float weights": lambda t: t.update(block_conv1_weight_int8=torch.ones(8, 8, 3, 3)),
    "wide weights": lambda t: t.update(
        block_conv1_weight_int8=torch.ones(8, 8, 3, 3, dtype=torch.int32))}


@pytest.mark.parametrize("target", ["fbgemm", "qnnpack", "x86", "reference", "native"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none(saved, name, target, tmp_path):
    """Scales, axes and types that a kernel would read through a raw pointer are refused first."""
    if target in ("reference", "native") and name in ("wide weights", "of another axis"):
        pytest.skip("plain tensors hold any integers, and scales along any axis")
    if target == "native" and name == "of another axis":
        pytest.skip("the layer computes in float")
    with pytest.raises(fxq.ArtifactError):
        loads(tmp_path, resealed(saved, change_scales(WEIGHTS[name])), target=target)


@pytest.mark.parametrize("target", ["fbgemm", "qnnpack", "x86", "reference", "native"])
def test_weights_that_are_some(saved, target, tmp_path):
    """The twin: the same file unchanged loads on each of these targets."""
    content = resealed(saved, change_scales(lambda tensors: None))
    assert loads(tmp_path, content, target=target)(X).shape == (2, 5)


def test_multipliers_that_leave_float32(saved, tmp_path):
    """A layer whose sums no float32 can scale computes in float, on native as elsewhere."""
    content = resealed(saved, change_scales(lambda t: t["block_conv1_weight_scale"].fill_(3e38)))
    (tmp_path / "x.fxq").write_bytes(content)
    found = [fxq.load(tmp_path / "x.fxq", target=target, runtime=runtime, verify=False)(X)
             for target, runtime in (("reference", "python"), ("native", "native"))]
    assert torch.equal(*found)
