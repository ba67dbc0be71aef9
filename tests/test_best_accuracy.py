"""accuracy="best": repairs before calibration, ranges and biases learned behind it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import fxq
from fxq.errors import CalibrationError, ConfigError
from fxq.quantization.schemes import REPAIRS, SCHEMES
from tests.nets import ramp
from tests.passes.test_equalize import depthwise, uneven

X = ramp(4, 3, 8, 8)
DATA = [X, X.flip(0) * 0.7]


def net():
    return nn.Sequential(depthwise(nn.ReLU6()), uneven(nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)))).eval()


def compiled(**options):
    return fxq.compile(net(), target="reference", example_inputs=(X,), calibration_data=DATA,
                       runtime="python", **options)


def test_best_is_closer_to_float_than_fast():
    """Channels that differ 64-fold lose most of their steps to one scale, unless repaired."""
    exact = net()(X)
    assert fxq.sqnr(exact, compiled(accuracy="best")(X)) > fxq.sqnr(exact, compiled()(X))


def test_report_names_what_was_done():
    """Repairs and learned steps are part of the configuration; fast has none."""
    best = dict(compiled(accuracy="best").report.configuration)
    assert best["repairs"] == " ".join(REPAIRS) and "ranges" in best["reconstruction"]
    assert not {"repairs", "reconstruction"} & set(dict(compiled().report.configuration))


def test_comparisons_repair_the_float_side_too(tmp_path):
    """Scaled values are held to scaled ones, of a file's model as well; else some lie 10 dB off."""
    model = net()
    best = fxq.compile(model, target="native", example_inputs=(X,), calibration_data=DATA,
                       accuracy="best")
    best.save(tmp_path / "best.fxq")
    for one in (best, fxq.load(tmp_path / "best.fxq")):
        assert min(row.sqnr for row in fxq.compare(model, one, DATA).nodes) > 20
        assert not fxq.debug(one, model, X).faults
    best.report = replace(best.report, repairs=())  # the twin: the plain float graph
    assert min(row.sqnr for row in fxq.compare(model, best, DATA).nodes) < 0


@pytest.mark.parametrize("made, used", [("fast", "best"), ("best", "fast")])
def test_statistics_of_the_other_graph_are_refused(made, used, tmp_path):
    """Repaired and plain values have the same names and other ranges; files remember it."""
    seen = fxq.calibrate(fxq.prepare(net(), target="reference", example_inputs=(X,),
                                     accuracy=made), DATA)
    seen.save(tmp_path / "a.stats")
    for given in (seen, tmp_path / "a.stats"):
        with pytest.raises(CalibrationError, match="not of this graph"):
            compiled(accuracy=used, statistics=given)
        compiled(accuracy=made, statistics=given)


def test_unknown_accuracy_and_repair():
    """Names that mean nothing are errors with the legal ones."""
    with pytest.raises(ConfigError, match="fast"):
        compiled(accuracy="finest")
    with pytest.raises(ConfigError, match="equalise"):
        compiled(scheme=replace(SCHEMES["int8_static"], repairs=("equalise",)))


@pytest.mark.parametrize("scheme", ["fp16", "int8_dynamic", "fp32"])
def test_schemes_without_ranges_have_no_better(scheme):
    """Nothing of "best" applies where nothing is calibrated."""
    with pytest.raises(ConfigError, match="no better accuracy"):
        fxq.prepare(net(), target="reference", scheme=scheme, example_inputs=(X,), accuracy="best")


@pytest.mark.parametrize("step", ["ranges", "bias"])
def test_each_step_lowers_the_error_on_its_batches(step):
    """Alone, a step may not lose: it is judged on the data that it learned from."""
    plain = replace(SCHEMES["int8_static"], activation_calibrator="minmax")
    learned = replace(plain, reconstruction=(step,))
    exact = torch.cat([net()(x) for x in DATA])
    a, b = (torch.cat([m(x) for x in DATA]) for m in (compiled(scheme=plain),
                                                       compiled(scheme=learned)))
    assert (b - exact).square().mean() <= (a - exact).square().mean()
