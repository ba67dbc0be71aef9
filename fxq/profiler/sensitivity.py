"""What quantizing each layer alone costs: where bits, or float, are worth most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fxq.compiler.build import built
from fxq.compiler.calibrate import calibrate
from fxq.compiler.prepare import prepare
from fxq.errors import CalibrationError
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import label
from fxq.quantization.sqnr import sqnr


def sensitivity(model: nn.Module, data: Iterable[Any], *, scheme: str = "int8_static",
                target: str = "reference") -> dict[str, float]:
    """dB of the outputs when only this layer is quantized, by module path, worst first.

    Data is read once; the outputs are those for its first batch. Raises CalibrationError for none.
    """
    kept = list(data)
    if not kept:
        raise CalibrationError("sensitivity needs at least one batch",
                               fix="pass a list or a DataLoader")
    first = kept[0][0] if isinstance(kept[0], tuple | list) else kept[0]
    prepared = prepare(model, target=target, scheme=scheme, example_inputs=(first,), verify=False)
    statistics = calibrate(prepared, kept)
    layers = dict.fromkeys(label(n) for n in prepared.graph_module.graph.nodes
                           if (op := op_of(n)) is not None and op.kind is Kind.MAC)
    with torch.no_grad():
        exact = model(first)
    found = {}
    for path in layers:  # the model is traced once; each layer is a conversion of its own
        others = {name: "fp32" for name in layers if name != path}
        executable = built(prepared.with_overrides(others), statistics)[1]
        outputs = executable.function(*prepared.convention.signature.tensors((first,), {}))
        found[path] = sqnr(exact, prepared.convention.outputs(iter(outputs)))
    return dict(sorted(found.items(), key=lambda item: item[1]))
