"""Exported files are valid, and ONNX Runtime gives REFERENCE's integers within one step."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.errors import ConfigError, UnsupportedOpError
from fxq.export import rows
from fxq.export.onnx_file import export_onnx
from fxq.quantization.schemes import SCHEMES
from tests.conformance.cases import CASES
from tests.conformance.run import compiled_for
from tests.helpers import compiled
from tests.nets import Classifier, Fn, SqueezeExcite, conv_bn_relu, lively, ramp

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from tests.export.parts import reference_of, run_file, steps  # noqa: E402

X = ramp(2, 3, 16, 16)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return compiled(lively(Classifier()), X, target="native")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def kinds(path):
    """The types of all initializers, and the operators."""
    graph = onnx.load(path).graph
    return ({onnx.TensorProto.DataType.Name(t.data_type) for t in graph.initializer},
            {n.op_type for n in graph.node})


def sizes(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("level", ["off", "on"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_each_operator_is_within_one_step(case, level, tmp_path):
    """Fed with REFERENCE's values, ONNX Runtime's result is at most one step off."""
    model, inputs = compiled_for(case, "native")
    (worst,) = steps(reference_of(model), inputs, tmp_path, level)
    assert max(worst.values(), default=0) <= 1, worst


def test_another_operator_is_found(classifier, tmp_path, monkeypatch):
    """The failing twin: the largest value where the average belongs is more than a step off."""
    monkeypatch.setitem(rows.ROWS, "adaptive_avg_pool2d", rows.ROWS["adaptive_max_pool2d"])
    (worst,) = steps(reference_of(classifier), [X], tmp_path, "off")
    assert max(worst.values()) > 1


@pytest.mark.parametrize("scheme, types, calls", [
    ("int8_static", {"INT8", "INT32", "UINT8"}, {"QuantizeLinear", "DequantizeLinear"}),
    ("int16_static", {"INT16", "INT32"}, {"QuantizeLinear", "DequantizeLinear"}),
    ("int4_weight", {"INT4", "UINT8", "INT32"}, {"QuantizeLinear", "DequantizeLinear"}),
    ("W6A6", {"INT8", "UINT8"}, {"Clip", "QuantizeLinear"}),
    ("int8_dynamic", {"INT8"}, {"DynamicQuantizeLinear"}),
    ("int8_weight_only", {"INT8"}, {"DequantizeLinear"}),
    ("fp32", {"FLOAT"}, {"Conv", "Gemm"})])
def test_schemes(scheme, types, calls, path, tmp_path):
    """The types that a scheme has are those of the file; its operators are within one step."""
    model = compiled(lively(Classifier()), X, target="reference", scheme=scheme)
    model.export(path)
    found = kinds(path)
    assert types <= found[0] and calls <= found[1]
    (worst,) = steps(reference_of(model), [X], tmp_path, "off")
    assert max(worst.values(), default=0) <= 1


def test_any_batch(classifier, path):
    """The batch is free, the other sizes are the example's."""
    classifier.export(path)
    graph = onnx.load(path).graph
    assert sizes(graph.input[0]) == ["batch", 3, 16, 16]
    assert sizes(graph.output[0]) == ["batch", 5]
    assert run_file(path, [torch.cat([X, X, X])])[0].shape == (6, 5)


def test_a_batch_that_the_model_fixes_stays(path):
    """The failing twin: a model that takes one batch only says so in its file."""
    model = compiled(Fn(lambda s, x: s.a(x).reshape(2, 64), a=nn.Conv2d(3, 2, 1)),
                     ramp(2, 3, 4, 8))
    model.export(path)
    assert sizes(onnx.load(path).graph.input[0]) == [2, 3, 4, 8]


def test_functions_that_run_as_tables_stay_functions(path):
    """A file holds the function, which each reader computes as it likes."""
    case = next(c for c in CASES if c.name == "silu table")
    compiled_for(case, "native")[0].export(path)
    assert {"Sigmoid", "Mul"} <= kinds(path)[1]


def test_shapes_are_inferred(classifier, path):
    """Strict inference finds a shape for every value, from those of the inputs alone."""
    classifier.export(path)
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    assert sizes(found.output[0]) == ["batch", 5]
    assert len(found.value_info) == len(found.node) - 1  # all but the output


def test_names_and_provenance(classifier, path):
    """Nodes are called like modules; the metadata says where the file comes from."""
    classifier.export(path)
    model = onnx.load(path)
    assert "stem.0/Conv" in {n.name for n in model.graph.node}
    assert "stem.0.weight" in {t.name for t in model.graph.initializer}
    facts = {p.key: p.value for p in model.metadata_props}
    assert set(facts) == {"fxq.version", "fxq.target", "fxq.scheme", "fxq.digest"}
    assert (facts["fxq.version"], facts["fxq.target"], facts["fxq.scheme"]) == (
        fxq.__version__, "native", "int8_static")


def test_the_same_bytes(classifier, tmp_path):
    """A model, and the model that a file of it gives, write the same ONNX file."""
    classifier.save(tmp_path / "model.fxq")
    fxq.load(tmp_path / "model.fxq").export(tmp_path / "a.onnx")
    classifier.export(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_several_inputs_and_outputs(path):
    """Inputs keep their names, outputs are output0, output1, … from left to right."""
    net = Fn(lambda s, x, y: {"sum": s.a(x) + s.a(y), "two": [x, x]}, a=nn.Conv2d(3, 4, 1))
    model = compiled(net, ramp(2, 3, 4, 4), ramp(2, 3, 4, 4, low=-3))
    model.export(path)
    graph = onnx.load(path).graph
    assert [i.name for i in graph.input] == ["inputs.0", "inputs.1"]
    assert [o.name for o in graph.output] == ["output0", "output1", "output2"]
    found = run_file(path, [ramp(2, 3, 4, 4), ramp(2, 3, 4, 4, low=-3)])
    assert torch.equal(found[1], ramp(2, 3, 4, 4)) and torch.equal(found[1], found[2])


HOSTILE = ("", "a\nb", "\x00", "../../etc/passwd", "\u202egnp", "é" * 400, "batch", "output0",
           "x/QuantizeLinear", "\ud800")


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_forged_names(name, path):
    """Whatever a file calls its modules, the graph is valid and computes the same."""
    model = compiled(conv_bn_relu(), X)
    model.export(path)
    plain, portable = run_file(path, [X], "off")[0], model._insides().content.portable
    forged = replace(portable, texts=(name,) * len(portable.texts))
    export_onnx(path, forged, (name,), {"target": name})
    names = {n.name for n in onnx.load(path).graph.node}
    assert all(n.isascii() and n.isprintable() and len(n) < 160 for n in names)
    assert torch.equal(run_file(path, [X], "off")[0], plain)


def test_operators_without_a_row_are_listed(path):
    """All of them, with the user's line; nothing is written."""
    net = Fn(lambda s, x: torch.cumsum(s.a(x), 1).logsumexp(1), a=nn.Conv2d(3, 4, 1))
    with pytest.raises(UnsupportedOpError, match="2 operators cannot be written as ONNX") as error:
        compiled(net, X).export(path)
    assert "(torch.cumsum): there is no row" in error.value.why
    assert "(logsumexp): there is no row" in error.value.why
    assert "test_onnx.py" in error.value.where and not path.exists()


def test_what_a_row_cannot_say_is_listed(path):
    """Windows of several sizes have no node of ONNX's."""
    net = Fn(lambda s, x: F.adaptive_avg_pool2d(s.a(x), 5), a=nn.Conv2d(3, 4, 1))
    with pytest.raises(UnsupportedOpError, match=r"windows of several sizes: \[16, 16\]"):
        compiled(net, X, target="reference").export(path)


def test_without_onnx(classifier, path, monkeypatch):
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install fxq\[onnx\]"):
        classifier.export(path)


def test_places_that_cannot_be_written(classifier, tmp_path):
    """Another ending, or a folder: ConfigError, and what was there stays."""
    with pytest.raises(ConfigError, match="its ending chooses the form"):
        classifier.export(tmp_path / "model.pb")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        classifier.export(tmp_path / "folder.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.onnx"]


def test_gates_and_branches(path, tmp_path):
    """A whole net with a gate gives REFERENCE's numbers, without and with optimizations."""
    torch.manual_seed(0)
    model = compiled(lively(SqueezeExcite()), X, target="native")
    model.export(path)
    step = max(n.kwargs["scale"] for n in reference_of(model).graph.nodes if "scale" in n.kwargs)
    for level in ("off", "on"):
        assert (run_file(path, [X], level)[0] - model(X)).abs().max() <= step * (1 + 1e-6)


def optimized(path):
    """The operators that ONNX Runtime executes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path) + ".optimized", 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return kinds(options.optimized_model_filepath)[1]


def test_every_layer_is_an_integer_kernel_of_onnx_runtime(path):
    """Where each operator rounds on its own, as on `fbgemm`, none is left in float."""
    scheme = replace(SCHEMES["int8_static"], bias="int32")
    compiled(lively(Classifier()), X, target="fbgemm", scheme=scheme).export(path)
    found = optimized(path)
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= found
    assert not {"Conv", "FusedConv", "Gemm", "Add"} & found


def test_a_sum_that_joins_its_convolution_is_float_there(classifier, path):
    """The failing twin: `native` rounds once for both, and ONNX Runtime has no such kernel."""
    classifier.export(path)
    assert "FusedConv" in optimized(path)
