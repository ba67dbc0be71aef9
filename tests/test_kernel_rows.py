"""The kernel of a node is chosen once, kept as a fact, and chosen again where operators change."""

import ast
from dataclasses import replace

import pytest
import torch
from torch import nn

import fxq
from fxq.ir.facts import ROW, copy_facts, is_on_integers, place_on_integers
from fxq.ir.integers import is_integer_operator
from fxq.ir.ops import op_name
from fxq.ir.printer import target_name
from fxq.kernels.arguments import ARGUMENTS
from fxq.kernels.calls import CALLS, Call
from fxq.kernels.rows import row_of
from fxq.targets import TARGETS, Kernel, get_target
from fxq.targets.base import option, rank
from tests.helpers import compiled, finished, prepared
from tests.nets import Fn, lively, ramp
from tests.test_layers import FILES, module_of

X = ramp(2, 3, 16, 16)
FBGEMM = get_target("fbgemm")


def asked_in(sources):
    """Modules that ask limits, or a target for the kernel of a node."""
    return {name for name, source in sources.items() for n in ast.walk(ast.parse(source))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and (
                n.func.attr == "holds" or (n.func.attr == "choose" and "target" in ast.dump(
                    n.func.value)))}


def test_one_place_chooses():
    """Limits are asked by the target, the target by the room that chooses; a twin is found."""
    sources = {module_of(path): path.read_text() for path in FILES}
    assert asked_in(sources) == {"fxq.targets.base", "fxq.analysis.kernel_rows"}
    assert asked_in({"fxq.passes.mine": "row = context.target.choose(node)"})


@pytest.mark.parametrize("name", ["convert", "fold-clamp", "fold-qdq", "absorb-add"])
def test_every_pass_leaves_a_row_on_integer_nodes(name):
    """Each integer operator knows its kernel, and it is one of the target's table."""
    net = Fn(lambda s, x: s.b(torch.max_pool2d(torch.relu(s.a(x)).clamp(0, 0.3), 2)),
             a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1))
    module, _ = finished(name, net, X)
    rows = [row_of(n) for n in module.graph.nodes if is_on_integers(n) or is_integer_operator(n)]
    assert len(rows) > 2 and all(row in FBGEMM.kernels for row in rows)


def test_a_pass_that_changes_the_operator_chooses_again():
    """fold-clamp takes a ReLU away that no kernel absorbs: the row is that of what is left."""
    no_relu = replace(FBGEMM, name="toy", kernels=tuple(
        row for row in FBGEMM.kernels if row.absorbs == ""))
    module, _ = finished("fold-clamp", nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), X,
                         target=no_relu)
    (conv,) = (n for n in module.graph.nodes if op_name(n) == "conv2d")
    assert row_of(conv).call == "conv2d"


def test_a_node_without_a_choice_is_an_error():
    """A pass that puts an operator on integers must choose; copied facts hold the choice."""
    module, _ = prepared(nn.ReLU(), X)
    node = next(n for n in module.graph.nodes if n.op == "call_function")
    assert row_of(node) is None
    place_on_integers(node)
    with pytest.raises(fxq.VerificationError, match="no kernel was chosen"):
        row_of(node)
    ROW.set(node, FBGEMM.kernels[0])
    twin = module.graph.call_function(torch.relu, node.args)
    copy_facts(node, twin)
    assert row_of(twin) is FBGEMM.kernels[0]


@pytest.mark.parametrize("verify", [True, False])
def test_a_sum_absorbed_for_x86_loads_where_no_kernel_absorbs_it(verify, tmp_path):
    """Rows are chosen for the host: it computes the sum in float, and does not drop it."""
    x = ramp(1, 64, 56, 56)
    net = lively(Fn(lambda s, x: s.h(torch.relu(s.a(x) + s.b(x))), a=nn.Conv2d(64, 64, 1),
                    b=nn.Conv2d(64, 64, 3, padding=1), h=nn.Conv2d(64, 4, 1)))
    model = compiled(net, x, target="x86")
    assert "conv2d_add_relu" in model.graph_text("REFERENCE")
    model.save(tmp_path / "a.fxq")
    loaded = fxq.load(tmp_path / "a.fxq", target="fbgemm", runtime="python", verify=verify)
    assert fxq.sqnr(net(x), loaded(x)) > 25


def halved(input):
    """A ReLU of one's own, with half the result where it is positive."""
    return torch.relu(torch.quantize_per_tensor(
        input.dequantize() / 2, input.q_scale(), input.q_zero_point(), input.dtype))


def test_a_row_may_hold_a_call_of_its_own():
    """An outsider's kernel needs no entry in fxq's table of calls."""
    own = Call("own_relu", torch.nn.functional.relu, "same")
    rows = tuple(r for r in FBGEMM.kernels if r.op != "relu" and r.absorbs != "relu")
    target = replace(FBGEMM, name="own", kernels=(*rows, Kernel("relu", own)))
    net = Fn(lambda s, x: s.b(torch.relu(torch.max_pool2d(s.a(x), 2))), a=nn.Conv2d(3, 8, 3),
             b=nn.Conv2d(8, 4, 1)).eval()
    model = compiled(net, X, target=target)
    assert "own_relu" in [target_name(n) for n in model.graph_module.graph.nodes]
    assert fxq.sqnr(net(X), model(X)) > 25
    wrong = replace(own, implementation=halved)
    with pytest.raises(fxq.VerificationError, match="steps"):
        compiled(net, X, target=replace(target, kernels=(*rows, Kernel("relu", wrong))))


BAD = {
    "unknown call 'covn2d', did you mean 'conv2d'": Kernel("conv2d", "covn2d"),
    "row conv2d.relu: unknown call": Kernel("conv2d", "", "relu"),
    "unknown float_call 'linear_flaot'": Kernel("linear", "linear", float_call="linear_flaot",
                                                dynamic_call="linear_dynamic"),
    "has the form 'dynamic', not float": Kernel("linear", "linear", float_call="linear_dynamic",
                                                dynamic_call="linear_dynamic"),
    "row linear: no dynamic_call": Kernel("linear", "linear"),
    "limits hold a tuple, which is no Limit": Kernel("conv2d", "conv2d", limits=((rank(4),),)),
    "limits hold 'groups', which is no Limit": Kernel("conv2d", "conv2d", limits=("groups",)),
    "limits is no tuple but Limit": Kernel("conv2d", "conv2d", limits=rank(4)),
    "limit '' lacks a reason": Kernel("conv2d", "conv2d", limits=(replace(rank(4), reason=""),)),
    "limit on 'mode', which the operator": Kernel("relu", "relu", limits=(option("mode", "x"),)),
    "pairings hold a Limit": Kernel("conv2d", "conv2d", pairings=(rank(4),)),
    "takes weights of 2 dimensions, not 4": Kernel("conv2d", "linear"),
    "row conv2d: call 'relu' takes no weights": Kernel("conv2d", "relu"),
    "row relu: call 'conv2d' takes weights": Kernel("relu", "conv2d"),
    "row hardswish: call 'relu' keeps": Kernel("hardswish", "relu"),
    "row relu: call 'hardswish' gives a scale of its own": Kernel("relu", "hardswish"),
    "call 'sigmoid' is not for every": Kernel("elementwise", "sigmoid"),
    "unknown operator 'sigmoid_relu'": Kernel("sigmoid", "sigmoid", "relu"),
    "nothing absorbs a tuple": Kernel("conv2d", "conv2d", (rank(4),)),
    "has the form 'wieghted', not": Kernel("conv2d", Call("own", torch.relu, "wieghted")),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_wrong_row_is_refused_when_the_target_is_made(reason):
    """With the row's name and what is wrong, before any model is compiled."""
    with pytest.raises(fxq.ConfigError, match=reason):
        replace(FBGEMM, name="toy", kernels=(BAD[reason],), unsupported={})


def test_right_rows_are_taken():
    """The twins: the same rows without the fault, and each row of fxq's own targets."""
    linear = Kernel("linear", "linear", dynamic_call="linear_dynamic", float_call="linear_float")
    conv = Kernel("conv2d", "conv2d", limits=(rank(4), option("groups", 1)))
    made = replace(FBGEMM, kernels=(linear, conv, Kernel("relu", "relu")), unsupported={})
    assert made.rows("conv2d") == (conv,)
    refuses = replace(FBGEMM, kernels=(Kernel("linear", "linear"),), unsupported={},
                      refused_modes={fxq.quantization.schemes.Mode.DYNAMIC: "no such kernel"})
    assert refuses.rows("linear") and all(t.kernels == tuple(t.kernels) for t in TARGETS.values())


def test_each_form_has_its_arguments():
    """The table of calls names only forms that something lays out."""
    forms = {call.form for call in CALLS.values()}
    assert forms == {*ARGUMENTS, "same", "function", "float", "dynamic"}
