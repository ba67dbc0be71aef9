"""Calibration: any data, exact and mergeable statistics, and errors that name the place."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fxq
from fxq.quantization.calibrators import CALIBRATORS, get_calibrator
from fxq.quantization.formats import QSpec
from fxq.quantization.observer import Observer
from fxq.quantization.synthetic_data import synthetic_batches
from fxq.quantization.tensor_statistics import BINS, SHIFT, TensorStatistics, bin_values
from tests.helpers import compiled
from tests.nets import Classifier, Fn, lively, ramp

X = ramp(4, 3, 16, 16)
U8 = QSpec(0, 255)


def calibrated(data, net=None, inputs=(X,), **options):
    torch.manual_seed(0)  # the same weights for every call
    prepared = fxq.prepare(net or lively(Classifier()), example_inputs=inputs)
    return fxq.calibrate(prepared, data, **options)


@pytest.mark.parametrize("data", [
    [X], [(X, 1)], [[X, torch.tensor([1])]], [{"x": X}], iter([X]), X,
    DataLoader(TensorDataset(X, torch.arange(4)), batch_size=4)])
def test_any_iterable_of_batches(data):
    """Tensors, pairs, lists, dicts, generators and loaders give the same statistics (T48)."""
    assert calibrated(data).ranges() == calibrated([X]).ranges()


def test_transform_sees_the_raw_batch():
    """A function may unpack what fxq cannot know."""
    seen = calibrated([("name", X)], transform=lambda batch: batch[1])
    assert seen["input0"].maximum == X.max().item()


def test_two_inputs_come_in_order():
    """A tuple is the inputs when the model takes more than one."""
    net = Fn(lambda s, a, b: s.conv(a) + b, conv=nn.Conv2d(3, 3, 1))
    seen = calibrated([(X, 3 * X)], net, (X, X))
    assert seen["input1"].maximum == 3 * X.max().item()


@pytest.mark.parametrize("data, text", [
    ([], "has no batches"), (7, "not an iterable"), (["text"], "batch 0 is str"),
    ([X, X * float("nan")], "batch 1: input 'x' holds NaN"),
    ([X, torch.full_like(X, float("inf"))], "batch 1: input 'x' holds NaN or infinity")])
def test_unusable_data_is_named(data, text):
    """No batches, no batch, NaN and infinity each have their error (T37, T38)."""
    with pytest.raises(fxq.CalibrationError, match=text):
        calibrated(data)


def test_infinity_inside_names_node_and_batch():
    """A value that overflows inside of the model is named with the user's line."""
    net = Fn(lambda s, x: torch.relu(s.conv(x) * 3e38), conv=nn.Conv2d(3, 3, 1))
    with pytest.raises(fxq.CalibrationError, match=r"batch 1: .* is not finite") as caught:
        calibrated([X * 0, X * 1e9], net, (X * 0,))
    assert "s.conv(x)" in caught.value.where


def test_example_inputs_are_not_calibration_data():
    """What verification runs leaves no trace in the statistics."""
    seen = calibrated([X * 0.5], inputs=(X * 100,))
    assert seen["input0"].maximum == (X * 0.5).max().item()


def test_constant_and_zero_inputs():
    """An all-zero activation has a scale, and stays exactly zero (T40)."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False))
    assert compiled(net, X * 0)(X * 0).abs().max() == 0


@pytest.mark.parametrize("low, high", [(2.0, 5.0), (-7.0, -1.0)])
def test_zero_is_always_representable(low, high):
    """A range on one side of zero is widened to it (T41)."""
    format_ = U8.qparams(low, high)
    assert format_.bounds()[0] <= 0 <= format_.bounds()[1]
    assert format_.integer(0.0) == format_.zero_point


def test_huge_magnitudes():
    """3e38 overflows nothing (T42)."""
    observer = Observer("x", "")
    observer(torch.tensor([-1e38, 1e38, 0.0]))
    for name in CALIBRATORS:
        low, high = get_calibrator(name)(observer.statistics(), U8)
        assert np.isfinite(U8.qparams(low, high).scale)


def test_small_batches_all_count():
    """One element a batch, inside of the old range, still counts (T43)."""
    observer = Observer("x", "")
    for value in (1.0, 0.25, 0.25, 0.5):
        observer(torch.tensor([value]))
    seen = observer.statistics()
    assert (seen.counts.sum(), seen.batches) == (4, 4)


def test_empty_tensors_are_skipped():
    """A value without elements teaches nothing (T44)."""
    observer = Observer("x", "")
    observer(torch.zeros(0, 3))
    assert not observer.statistics().seen


@pytest.mark.parametrize("view", [
    lambda x: x, lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x[:, ::2],
    lambda x: x.permute(0, 2, 3, 1)])
def test_layouts_and_views(view):
    """Strided and channels_last values are seen whole (T45)."""
    observer, x = Observer("x", ""), view(ramp(2, 4, 5, 5))
    observer(x)
    seen = observer.statistics()
    assert (seen.minimum, seen.maximum) == (x.min().item(), x.max().item())
    assert seen.counts.sum() == x.numel()


def test_batches_of_different_shapes():
    """Streaming statistics do not care (T47)."""
    net = Fn(lambda s, x: s.conv(x), conv=nn.Conv2d(3, 4, 3))
    seen = calibrated([X, ramp(1, 3, 20, 9)], net)
    assert seen["input0"].batches == 2


floats = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40)


def observe(values):
    observer = Observer("x", "", channel_axis=-1)
    observer(torch.tensor(values).reshape(-1, 1))
    return observer.statistics()


@settings(max_examples=50, deadline=None)
@given(floats, floats, floats)
def test_law_merging_is_exact_in_any_order(a, b, c):
    """Merging is associative and commutative, bit for bit."""
    x, y, z = observe(a), observe(b), observe(c)
    left, right = x.merge(y).merge(z), z.merge(y.merge(x))
    assert (left.minimum, left.maximum, left.batches) == (
        right.minimum, right.maximum, right.batches)
    assert np.array_equal(left.counts, right.counts)
    assert np.array_equal(left.channel_sums, right.channel_sums)


@settings(max_examples=100, deadline=None)
@given(st.floats(-(2.0**99), 2.0**99, width=32))
def test_law_each_value_lies_in_its_bin(value):
    """A bin is about 3 % wide, so its middle is within 1.6 % of every value in it."""
    index = (np.array([value], np.float32).view(np.uint32) >> SHIFT)[0]
    middle = bin_values()[index % BINS]
    assert abs(middle - value) <= 2**-5 * abs(value) + 1e-37


@settings(max_examples=60, deadline=None)
@given(floats)
def test_law_calibrated_ranges_lie_inside_the_extremes(values):
    """No calibrator invents a range beyond what was seen (zero aside)."""
    seen = observe(values)
    for name in sorted({*CALIBRATORS} - {"fixed"}):
        low, high = get_calibrator(name)(seen, U8)
        assert min(seen.minimum, 0) <= low <= high <= max(seen.maximum, 0) or low == high


def test_mse_cuts_a_lonely_outlier():
    """One value far out does not take the resolution of all others."""
    counts = np.zeros(BINS, np.int64)
    bits = np.array([0.5, 1.0, 100.0], np.float32).view(np.uint32) >> SHIFT
    counts[bits] = [10**8, 10**8, 1]
    seen = TensorStatistics(0.0, 100.0, counts, 1)
    assert get_calibrator("mse")(seen, U8)[1] < 60
    assert get_calibrator("minmax")(seen, U8)[1] == 100


def test_memory_is_flat_over_200_batches():
    """Statistics are streaming: resident memory does not grow with the data (T46)."""
    prepared = fxq.prepare(lively(Classifier()), example_inputs=(X,))
    fxq.calibrate(prepared, (X for _ in range(20)))
    before = resident()
    fxq.calibrate(prepared, (X.clone() for _ in range(200)))
    assert resident() - before < 8e6  # 200 batches of activations would be 50 MB


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_progress_counts_batches():
    """The callback hears of each batch."""
    heard = []
    calibrated([X, X], progress=heard.append)
    assert heard == [1, 2]


def test_statistics_replace_calibration():
    """Ranges that were fixed before give the same model without data."""
    net = lively(Classifier())
    seen = calibrated([X], net)
    model = fxq.compile(net, example_inputs=(X,), statistics=seen, runtime="python")
    again = fxq.compile(net, example_inputs=(X,), calibration_data=[X], runtime="python")
    assert torch.equal(model(X), again(X))


def test_synthetic_batches_of_indices_repeat_the_examples():
    """Integers cannot be invented: a batch of two is repeated up to the synthetic batch's size."""
    x = torch.tensor([[1, 2, 3], [0, 4, 2]])
    made = synthetic_batches(nn.Embedding(5, 8), [x], 0)
    assert all(torch.equal(batch, x.repeat(4, 1)) for batch, in made)
