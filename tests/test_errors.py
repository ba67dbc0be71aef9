"""Error messages are part of the product: what, where, why, how to fix, and short."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fxq
from fxq.targets import Kernel, get_target
from tests.helpers import compiled, prepared
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(2, 3, 16, 16)


def branch():
    return compiled(Fn(lambda s, x: x if x.mean() > 0 else -x), X)


def hook():
    net = lively(Classifier())
    net.head.register_forward_hook(lambda m, a, o: o)
    return compiled(net, X)


def unknown_target():
    return compiled(lively(Classifier()), X, target="fbgem")


def strict():
    return compiled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Mish()), X, strict=True)


def nan_batch():
    return compiled(lively(Classifier()), X, calibration=[X, X * float("nan")])


def no_batches():
    return compiled(lively(Classifier()), X, calibration=iter(()))


def no_shape():
    return fxq.compile(lively(Classifier()))


def other_flag():
    class Flagged(nn.Module):
        def forward(self, x, deep=False):
            return torch.relu(x)

    return compiled(Flagged(), X)(X, deep=True)


def bad_table():
    from dataclasses import replace

    return replace(get_target("fbgemm"), kernels=(Kernel("conv2d", "conv2d"),) * 2,
                   unsupported={"covn": "typo"})


def bad_rows():
    from dataclasses import replace

    from fxq.targets.base import option, rank

    rows = (Kernel("conv2d", "conv2d_rleu", "relu"), Kernel("linear", "linear"),
            Kernel("relu", "relu", limits=(option("groups", 1),)),
            Kernel("mean", "mean", limits=rank(4)))
    return replace(get_target("fbgemm"), name="toy", kernels=rows, unsupported={})


def missing_engine():
    from fxq.kernels.calls import require_engine

    return require_engine("neon")


def in_place_view():
    def function(s, x):
        y = x * 2
        z = y.flatten(1)
        z.relu_()
        return y + 1

    return compiled(Fn(function), X)


def random_numbers():
    return compiled(Fn(lambda s, x: F.dropout(s.conv(x), 0.5), conv=nn.Conv2d(3, 4, 1)), X)


def counter():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    return compiled(Counting(), X)


def buffer_in_place():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls.add_(1)
            return x + self.calls

    return compiled(Counting(), X)


def cache():
    class Caching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = None

        def forward(self, x):
            if self.first is None:
                self.first = x * 2
            return self.first + x

    return compiled(Caching(), X)


def autocast():
    def function(s, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return s.conv(x)

    return compiled(Fn(function, conv=nn.Conv2d(3, 4, 1)), X)


def meta_weights():
    with torch.device("meta"):
        net = nn.Conv2d(3, 4, 1)
    return compiled(net, X)


def sparse_input():
    return compiled(nn.Conv2d(3, 4, 1), X.to_sparse(), calibration=[X])


def set_of_tensors():
    return compiled(Fn(lambda s, x: {torch.relu(x)}), X)


def numpy_output():
    return compiled(Fn(lambda s, x: torch.relu(x).numpy()), X)


def own_failure():
    return compiled(Fn(lambda s, x: torch.cat([x, x.flatten(1)])), X)


def other_batch():
    return compiled(nn.Conv2d(3, 4, 1), X, calibration=[X, X[:, :2]])


def wrong_size():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))
    return compiled(lively(net), X, target="qnnpack")(ramp(2, 3, 20, 16))


def wrong_layout():
    return compiled(nn.ReLU(), X)(X.to_sparse())


CASES = (random_numbers, counter, buffer_in_place, cache, autocast, meta_weights, sparse_input,
         set_of_tensors, numpy_output, own_failure, other_batch, branch, hook, unknown_target,
         strict, nan_batch, no_batches, no_shape, other_flag, bad_table, bad_rows, missing_engine,
         in_place_view, wrong_size, wrong_layout)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_golden_message(case, golden):
    """The whole message, under 25 lines, without a folder or number that changes."""
    with pytest.raises(fxq.FxqError) as caught:
        case()
    text = stable(f"{type(caught.value).__name__}: {caught.value}\n")
    assert text.count("\n") < 25
    golden.check(text)


def stable(text):
    """Without line numbers, temporary folders and the list of this machine's engines."""
    import re

    text = re.sub(r"\.py:\d+", ".py:N", text)
    text = re.sub(r"\n  graphs .*", "", text)
    return re.sub(r"torch offers: .*", "torch offers: ...", text)


def test_every_error_is_an_fxq_error():
    """One class catches them all."""
    kinds = [getattr(fxq, n) for n in fxq.__all__ if n.endswith("Error")]
    assert len(kinds) == 10
    assert all(issubclass(k, fxq.FxqError) for k in kinds)
    assert prepared(lively(Classifier()), X)[1].records == []
