"""Run a model through the pipeline up to a pass, and compare what graphs compute."""

from __future__ import annotations

import re
from dataclasses import replace

import torch

import fxq
from fxq.analysis.context import Context
from fxq.compiler.manager import Manager
from fxq.compiler.pipeline import FINISH, PREPARE
from fxq.frontend.private_copy import private_copy
from fxq.frontend.record_shapes import record_shapes
from fxq.frontend.signature import signature_of
from fxq.frontend.trace import trace
from fxq.quantization.schemes import SCHEMES
from fxq.runtime.python import build
from fxq.targets import get_target

MINMAX = replace(SCHEMES["int8_static"], activation_calibrator="minmax", correct_bias=False)


def prepared(model, *inputs, passes=(), scheme=MINMAX, target="fbgemm", verify=True):
    """(graph module, manager) after the given passes of PREPARE."""
    model.eval()
    signature = signature_of(model, inputs, {})
    traced = trace(private_copy(model), signature)
    record_shapes(traced.graph_module, list(inputs))
    manager = Manager(Context(get_target(target), scheme), list(inputs), verify)
    manager.run(traced.graph_module, passes)
    return traced.graph_module, manager


def upto(name, model, *inputs, **options):
    """The graph and the record right after the named pass; PREPARE passes only."""
    passes = PREPARE[: [p.name for p in PREPARE].index(name) + 1]
    module, manager = prepared(model, *inputs, passes=passes, **options)
    return module, manager.records[-1]


def finished(name, model, *inputs, calibration=None, scheme=MINMAX, target="fbgemm"):
    """The graph and the record right after the named pass of FINISH."""
    module, manager = prepared(model, *inputs, passes=PREPARE, scheme=scheme, target=target)
    observe(module, calibration or [inputs])
    manager.context = replace(manager.context, statistics=statistics_of(module))
    manager.run(module, FINISH[: [p.name for p in FINISH].index(name) + 1])
    return module, manager.records[-1]


def observe(module, batches):
    function = build(module)
    with torch.no_grad():
        for batch in batches:
            function(*batch)


def statistics_of(module):
    from fxq.quantization.observer import Observer

    return fxq.Statistics({m.key: m.statistics() for m in module.children()
                           if isinstance(m, Observer)})


def run(module, *inputs):
    """What a graph computes; a single output is unwrapped."""
    with torch.no_grad():
        outputs = build(module)(*inputs)
    return outputs[0] if len(outputs) == 1 else outputs


def ops(module):
    """The operators of a graph, in order."""
    from fxq.ir.printer import target_name

    return [target_name(n) for n in module.graph.nodes if n.op.startswith("call_")]


def codes(record):
    """The codes of what a pass refused."""
    return [r.code for r in record.refusals]


def without_scales(text):
    """Measured scales move in the last bit between machines; the goldens of models fix theirs."""
    text = re.sub(r"\b(z|zero_point|low|high)=\d+", r"\1=*", text)
    return re.sub(r"\b(s|scale)=[0-9.e-]+", r"\1=*", text)


def rewrites(record):
    """What a pass says that it did, one line each."""
    return "".join(f"{r.path}: {r.what}\n" for r in record.rewrites)


def compiled(model, *inputs, calibration=None, **options):
    """A compiled micro net, calibrated on its own inputs, without measuring runtimes."""
    options = {"runtime": "python", "calibrator": "minmax"} | options
    return fxq.compile(model.eval(), example_inputs=inputs,
                       calibration_data=calibration or [inputs if len(inputs) > 1 else inputs[0]],
                       **options)
