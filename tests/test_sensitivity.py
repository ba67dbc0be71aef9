"""fxq.sensitivity: what each layer costs at the outputs, predicted from one pass over the data."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import fxq
from fxq.profiler import first_order as engine
from fxq.profiler import sensitivity as module
from tests.nets import Classifier, Fn, lively

DATA = list(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)).split(16))


def uneven():
    """Four layers whose weights lose between little and much to rounding."""
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Conv2d(3 if not i else 8, 8, 3) for i in range(4)), nn.AvgPool2d(8),
                        nn.Flatten(), nn.Linear(8, 5)).eval()
    with torch.no_grad():
        for i, spread in enumerate((4.0, 1.0, 30.0, 12.0)):
            net[i].weight[:, 0] *= spread
    return net


@pytest.fixture(scope="module")
def found():
    net = uneven()
    return [fxq.sensitivity(net, DATA, scheme="W4A8", exact=exact) for exact in (False, True)]


def test_prediction_ranks_layers_as_measurement_does(found):
    """Without a run for each layer: the order is that of converting each layer alone."""
    predicted, exact = found
    assert set(predicted) == set(exact) and not predicted.exact and exact.exact
    assert spearmanr([predicted[p] for p in exact], list(exact.values())).statistic >= 0.9


def test_a_prediction_is_within_the_noise_of_its_directions(found):
    """One random direction for each of n images: the mean of n squares is off by sqrt(2 / n) at one
    deviation; three of them are 10·log10(1 + 3·sqrt(2/64)) = 1.9 dB, and as much for the rest."""
    predicted, exact = found
    assert all(abs(predicted[p] - exact[p]) < 3.8 for p in exact)


def test_more_bits_are_more_exact():
    """16 bits beat 8, and 8 beat 4, for every layer."""
    seen = fxq.sensitivity(uneven(), DATA, scheme="W4A8", schemes=("int8_static", "int16_static"))
    four, eight, sixteen = (seen.of(s) for s in ("W4A8", "int8_static", "int16_static"))
    assert all(four[p] < eight[p] < sixteen[p] for p in four)


def test_the_network_runs_once(monkeypatch):
    """One forward pass for each chunk of the data, whatever the number of layers and schemes."""
    runs = []
    run = engine._Values.run
    monkeypatch.setattr(engine._Values, "run", lambda s, *x: runs.append(len(x[0])) or run(s, *x))
    fxq.sensitivity(uneven(), DATA, scheme="W4A8", schemes=("int8_static",), images=16)
    assert sum(runs) == 16


def test_exact_runs_each_layer(monkeypatch):
    """The failing twin: the exact way converts once for each layer alone, and once for the rest."""
    conversions = []
    built = module.built
    monkeypatch.setattr(module, "built", lambda *a: conversions.append(1) or built(*a))
    fxq.sensitivity(uneven(), DATA[:1], scheme="W4A8", exact=True)
    assert len(conversions) == 2 * 5


def test_a_layer_alone_brings_its_sum_along():
    """A residual sum behind an integer layer is on integers too, and rounds the shortcut."""
    prepared = fxq.prepare(lively(Classifier()), target="fbgemm", example_inputs=(DATA[0],))
    seen = fxq.calibrate(prepared, DATA)
    mixed = module.Mixtures(engine.fused_graph_of(prepared), prepared, seen)
    values = [{r.value for r in mixed.roundings(dict.fromkeys(mixed.paths, "fp32") | {
        path: "int8_static"}) if r.kind == "value"} for path in ("block.conv1", "block.conv2")]
    assert len(values[0]) == 2 and len(values[1]) > 2  # what it reads, what it makes, and the rest


def test_outputs_that_are_no_logits_have_no_flips():
    """Segmentation maps and features: dB only."""
    net = Fn(lambda s, x: s.conv(x), conv=nn.Conv2d(3, 4, 3))
    row, = fxq.sensitivity(net.eval(), DATA[:1]).rows
    assert row.kl is None and row.flips is None and row.sqnr > 20


def test_no_data_is_an_error():
    """An empty iterable is named."""
    with pytest.raises(fxq.CalibrationError, match="at least one batch"):
        fxq.sensitivity(uneven(), [])


def test_flips_grow_with_noise(found):
    """No noise flips nothing, endless noise every second image."""
    effects = engine.Effects(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), True, {})
    shares = [module.flips(effects, v) for v in (0.0, 0.1, 1.0, 1e12)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == pytest.approx(0.5, abs=1e-3)
    assert replace(effects, classes=False).total([]).shape == (2, 3)
