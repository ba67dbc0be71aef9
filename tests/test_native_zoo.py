"""The zoo on the native engine: every program gives the bits of the graph."""

import pytest
import torch
import torchvision
from torch import nn

import fxq
from fxq.kernels.native.library import why_not
from tests.fuzz.native import Checked, setting
from tests.nets import lively
from tests.test_zoo import CNNS, OTHERS

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
QUICK = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1")
SIDES = dict.fromkeys(torchvision.models.list_models(module=torchvision.models), 33) | {
    **CNNS, **OTHERS}
LARGE = ("vit_h_14", "vit_l_16", "vit_l_32", "vit_b_32", "vit_b_16", "maxvit_t", "regnet_y_128gf")
AUXILIARY = ("googlenet", "inception_v3")  # whose training heads do not belong here


def compiled(name):
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in AUXILIARY else {}
    model = lively(torchvision.models.get_model(name, weights=None, **options))
    for layer in [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    x = torch.randn(2, 3, SIDES[name], SIDES[name])
    return fxq.compile(model, target="native", example_inputs=(x,), calibration_data=[x],
                       verify=False, runtime="python")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow)
                                  for n in SIDES if n not in LARGE])
def test_zoo(name):
    """Two batches and numbers of threads; no program is refused for its inputs."""
    checked = Checked(compiled(name))
    for batch, threads in ((1, 1), (3, 2)):
        with setting("amx", True, threads):
            checked(torch.randn(batch, 3, SIDES[name], SIDES[name]))
    assert not any(p.reason for p in checked.programs)
