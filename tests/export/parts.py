"""REFERENCE graphs taken apart: each operator alone, in torch and in ONNX Runtime."""

import numpy as np
import onnxruntime
import torch
from torch import fx

from fxq.analysis.context import Context
from fxq.analysis.kernel_rows import choose_rows
from fxq.artifact.read_graph import from_portable
from fxq.artifact.write_graph import to_portable
from fxq.compiler.link import link
from fxq.compiler.manager import Manager
from fxq.export.onnx_file import export_onnx
from fxq.ir import integers
from fxq.ir.facts import Info, copy_facts, info, qparams, set_info
from fxq.ir.graph_module import LateGraphModule
from fxq.ir.rewriter import label
from fxq.ir.stages import Stage
from fxq.runtime.shape_program import shape_program
from fxq.targets import get_target

LEVELS = {"off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
          "on": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL}


def reference_of(compiled):
    """A fresh copy of the graph that a compiled model was made from."""
    return from_portable(compiled._insides().content.portable)


def session(path, level="on"):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_file(path, inputs, level="on"):
    """The outputs of an ONNX file for torch tensors, as torch tensors."""
    made = session(path, level)
    given = {i.name: x.numpy() for i, x in zip(made.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(np.asarray(y)) for y in made.run(None, given)]


def operators(module):
    """(label, step, sources, graph) of each operator whose result is on a grid.

    The graph reads real numbers that lie on the grids of the operator's integer inputs, and gives
    the real numbers that its integers stand for.
    """
    for node in module.graph.nodes:
        format_ = qparams(node)
        if format_ is not None:
            yield (label(node), format_.scale, *_alone(module, node, format_))


def _alone(module, node, format_):
    graph, copies, sources = fx.Graph(), {}, []

    def copied(old):
        if old in copies:
            return copies[old]
        if old.op == "placeholder" or (old is not node and qparams(old)):
            sources.append(old)
            copies[old] = _entrance(graph, old)
            return copies[old]
        before = {a: copied(a) for a in old.all_input_nodes}
        copies[old] = graph.node_copy(old, before.__getitem__)
        copy_facts(old, copies[old])
        return copies[old]

    result = copied(node)
    last = graph.call_function(integers.dequantize, (result,), integers.qparams_kwargs(format_))
    set_info(last, Info(info(node).shape, torch.float32))
    graph.output([last])
    entrances = [n for n in graph.nodes if n.op == "placeholder"]
    for place in reversed(entrances):
        graph._root.append(place)
    return sources, LateGraphModule(module, graph)


def _entrance(graph, old):
    """A float input; for integers, rounded to the grid on which its values lie."""
    place = graph.placeholder(f"x{len(graph.nodes)}")
    set_info(place, Info(info(old).shape, torch.float32))
    if qparams(old) is None:
        return place
    new = graph.call_function(integers.quantize, (place,), integers.qparams_kwargs(qparams(old)))
    copy_facts(old, new)
    return new


def computed(module, *inputs):
    """What a REFERENCE graph means: exact sums of integers, as the target `reference` has them."""
    target = get_target("reference")
    manager = Manager(Context(target), list(inputs), False, stage=Stage.REFERENCE, recording=False)
    choose_rows(module, target)
    names = tuple(n.name for n in module.graph.nodes if n.op == "placeholder")
    with torch.no_grad():
        made = link(module, manager, (names, shape_program(module)), "python").function(*inputs)
    return made[0]


class _Values(fx.Interpreter):
    """All real values of one run."""

    def __init__(self, module):
        super().__init__(module)
        self.seen, self.extra_traceback = {}, False

    def run_node(self, n):
        value = super().run_node(n)
        format_ = qparams(n)
        self.seen[n] = value if format_ is None else integers.dequantize(
            value, **integers.qparams_kwargs(format_))
        return value


def steps(module, inputs, folder, *levels):
    """Of each level: {operator: ONNX Runtime's largest distance from REFERENCE in whole steps}.

    Each operator reads what REFERENCE's operators give.
    """
    values = _Values(module)  # near enough: operators are compared on the same integers
    with torch.no_grad():
        values.run(*inputs)
    found = [{} for _ in levels]
    path = folder / "alone.onnx"
    for name, step, sources, alone in operators(module):
        given = [values.seen[s] for s in sources]
        export_onnx(path, to_portable(alone), tuple(f"x{i}" for i in range(len(given))), {})
        expected = computed(alone, *given)
        for level, worst in zip(levels, found, strict=True):
            off = (run_file(path, given, level)[0] - expected).abs().max() / step
            worst[name] = max(worst.get(name, 0), round(float(off)))  # both lie on the grid
    return found
