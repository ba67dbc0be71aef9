"""Every stage of ResNet-18, MobileNetV2 and MobileNetV3-Small, from ranges stored beside them."""

import json
from dataclasses import replace

import pytest
import torch
import torchvision

import fxq
from fxq.compiler.pipeline import FINISH, PREPARE
from fxq.ir.printer import format_graph
from tests.conftest import GOLDEN
from tests.helpers import MINMAX, observe, prepared, run, statistics_of
from tests.nets import lively

MODELS = ("resnet18", "mobilenet_v2", "mobilenet_v3_small")
STAGES = {"normal": "normalize", "fused": "fuse-activation", "observed": "insert-observers",
          "reference": "fold-qdq", "lowered": "lower"}


def build(name):
    torch.manual_seed(0)
    return lively(torchvision.models.get_model(name, weights=None))


def stored_ranges(name, module, x, update):
    """Ranges measured once and kept, so that goldens hold on every machine."""
    path = GOLDEN / "ranges" / f"{name}.json"
    if update:
        observe(module, [(x,)])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(statistics_of(module).ranges(), indent=0) + "\n")
    return fxq.Statistics.read_ranges(path)


@pytest.mark.parametrize("name", MODELS)
def test_golden_stages(name, golden, request):
    """The text of each stage; and the LOWERED numbers are close to float's."""
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = build(name)
    module, manager = prepared(model, x, passes=PREPARE, scheme=MINMAX)
    update = request.config.getoption("--update-golden")
    ranges = stored_ranges(name, module, x, update)
    module, manager = prepared(model, x, passes=(), scheme=MINMAX)
    manager.context = replace(manager.context, statistics=ranges)
    for item in (*PREPARE, *FINISH):
        manager.run(module, (item,))
        for stage, last in STAGES.items():
            if item.name == last:
                golden.check(format_graph(module), stage)
    assert fxq.sqnr(model(x), run(module, x)) > 15
