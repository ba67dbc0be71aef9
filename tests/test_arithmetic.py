"""The integer arithmetic against an oracle of Python's own integers and fractions, torch unused."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fxq.ir import arithmetic

BYTE = {"low": 0, "high": 255}
SEEDS = st.integers(0, 10_000)
LAW = settings(max_examples=25, deadline=None)


def float32(value):
    """The float32 next to an exact fraction, half to even."""
    if not value:
        return Fraction(0)
    exponent = math.frexp(value)[1] - 24
    for _ in range(2):  # the float of a fraction may lie one power of two above it
        unit = Fraction(2) ** max(exponent, -149)
        if abs(value) < unit * 2**24:
            break
        exponent += 1
    return round(Fraction(value) / unit) * unit  # Python rounds half to even


def requantized(value, zero, low=0, high=255):
    return min(max(round(value) + zero, low), high)


def random_bytes(seed, *shape, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, shape)


def weights(seed, *shape):
    return random_bytes(seed + 1, *shape, low=-128, high=128)


def multipliers(seed, count):
    """Float32 numbers of several sizes, some of which put results on ties."""
    drawn = np.random.default_rng(seed + 2).uniform(1e-4, 2e-2, count).astype(np.float32)
    drawn[0] = 2.0**-8
    return drawn


def biases(seed, count):
    return random_bytes(seed + 3, count, low=-20_000, high=20_000)


def exact(value):
    return Fraction(float(value))


def conv_sum(x, w, bias, o, place, zero, stride, padding, dilation, groups):
    """One output number of a convolution, by the book."""
    total, per_group = int(bias[o]), w.shape[1]
    first = o // (w.shape[0] // groups) * per_group
    for channel, *taps in product(*(range(s) for s in w.shape[1:])):
        at = [p * s - q + t * d for p, t, s, q, d in zip(
            place, taps, stride, padding, dilation, strict=True)]
        if all(0 <= a < size for a, size in zip(at, x.shape[1:], strict=True)):
            total += (int(x[(first + channel, *at)]) - zero) * int(w[(o, channel, *taps)])
    return total


GEOMETRY = st.sampled_from([  # rank, channels, outputs, kernel, stride, padding, dilation, groups
    (1, 3, 4, (3,), (2,), (1,), (1,), 1), (2, 4, 4, (3, 2), (1, 2), (1, 0), (1, 1), 4),
    (2, 4, 6, (2, 3), (2, 1), (0, 2), (2, 1), 2), (2, 3, 5, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    (3, 2, 2, (2, 1, 2), (1, 1, 2), (0, 0, 1), (1, 1, 1), 1)])


def conv_case(seed, geometry):
    rank, channels, outputs, kernel, stride, padding, dilation, groups = geometry
    x = random_bytes(seed, channels, *(4, 5, 3)[:rank])
    w = weights(seed, outputs, channels // groups, *kernel)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x, w, biases(seed, outputs), multipliers(seed, outputs), options


def tensors(x, w, bias, multiplier):
    return (torch.from_numpy(x.astype(np.uint8))[None], torch.from_numpy(w.astype(np.int8)),
            torch.from_numpy(bias.astype(np.int32)), torch.from_numpy(multiplier))


def conv_sums(x, w, bias, shape, zero, options):
    return {at: conv_sum(x, w, bias, at[0], at[1:], zero, **options)
            for at in product(*(range(s) for s in shape))}


@LAW
@given(SEEDS, GEOMETRY, st.integers(0, 255), st.integers(0, 255))
def test_conv(seed, geometry, zero_in, zero):
    """Every number of a convolution of 1, 2 and 3 dimensions, with strides, groups and padding."""
    x, w, bias, m, options = conv_case(seed, geometry)
    found = arithmetic.conv(*tensors(x, w, bias, m), **options, zero_in=zero_in, zero=zero, low=3,
                            high=250)[0].numpy()
    for at, total in conv_sums(x, w, bias, found.shape, zero_in, options).items():
        value = float32(float32(Fraction(total)) * exact(m[at[0]]))
        assert found[at] == requantized(value, zero, 3, 250)


def test_a_conv_that_rounds_in_float64_is_found():
    """The failing twin: where the float32 product is a tie and the exact one is not."""
    total, m = 8_388_611, np.float32(2.0**-24 * 1.5)
    real = exact(m) * total
    assert float32(float32(Fraction(total)) * exact(m)) != real
    sums = torch.tensor([[total]], dtype=torch.int32)
    found = arithmetic.linear(torch.zeros(1, 1, dtype=torch.uint8),
                              torch.zeros(1, 1, dtype=torch.int8), sums[0],
                              torch.tensor([m]), zero_in=0, zero=0, **BYTE)
    assert found.item() == requantized(float32(exact(m) * total), 0)


@LAW
@given(SEEDS, GEOMETRY.filter(lambda g: g[0] == 2), st.integers(0, 255), st.integers(0, 255))
def test_conv_add(seed, geometry, zero_in, zero_other):
    """The other value joins as a float32 of its own, before rounding."""
    x, w, bias, m, options = conv_case(seed, geometry)
    plain = arithmetic.conv(*tensors(x, w, bias, m), **options, zero_in=0, zero=0, **BYTE)
    other = random_bytes(seed + 4, *plain.shape[1:])
    scale = multipliers(seed + 5, 2)[1] * np.float32(50)
    found = arithmetic.conv_add(*tensors(x, w, bias, m),
                                torch.from_numpy(other.astype(np.uint8))[None], **options,
                                zero_in=zero_in, zero_other=zero_other,
                                other_multiplier=float(scale), zero=7, **BYTE)[0].numpy()
    for at, total in conv_sums(x, w, bias, found.shape, zero_in, options).items():
        value = float32(float32(Fraction(total)) * exact(m[at[0]]))
        joined = float32((int(other[at]) - zero_other) * exact(scale))
        assert found[at] == requantized(float32(value + joined), 7)


def test_conv_add_rounds_once():
    """The failing twin: a convolution, rounded, and then a sum gives other integers."""
    x, w = torch.tensor([[[[1]]]], dtype=torch.uint8), torch.tensor([[[[1]]]], dtype=torch.int8)
    geometry = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "zero_in": 0}
    constants = torch.zeros(1, dtype=torch.int32), torch.tensor([0.5])
    once = arithmetic.conv_add(x, w, *constants, x, **geometry, zero_other=0, other_multiplier=0.5,
                               zero=0, **BYTE)
    conv = arithmetic.conv(x, w, *constants, **geometry, zero=0, **BYTE)
    twice = arithmetic.add(conv, x, zero_a=0, zero_b=0, multiplier_a=1.0, multiplier_b=0.5, zero=0,
                           **BYTE)
    assert (once.item(), twice.item()) == (1, 0)


@LAW
@given(SEEDS, st.sampled_from([(1, 1, 0, 0, 1), (2, 2, 1, 1, 1), (1, 2, 0, 1, 2), (2, 3, 1, 2, 1)]),
       st.integers(0, 255))
def test_conv_transpose(seed, options, zero_in):
    """Each input number is scattered over the kernel."""
    groups, stride, padding, extra, dilation = options
    x, w = random_bytes(seed, 2, 4), weights(seed, 2, 3, 3)
    bias, m = biases(seed, 3 * groups), multipliers(seed, 3 * groups)
    found = arithmetic.conv_transpose(*tensors(x, w, bias, m), stride=(stride,), padding=(padding,),
                                      output_padding=(extra,), groups=groups, dilation=(dilation,),
                                      zero_in=zero_in, zero=100, **BYTE)[0].numpy()
    totals = {at: int(bias[at[0]]) for at in product(*map(range, found.shape))}
    for c, i, o, k in product(range(2), range(4), range(3), range(3)):
        at = (c // (2 // groups) * 3 + o, i * stride - padding + k * dilation)
        if at in totals:
            totals[at] += (int(x[c, i]) - zero_in) * int(w[c, o, k])
    for at, total in totals.items():
        value = float32(float32(Fraction(total)) * exact(m[at[0]]))
        assert found[at] == requantized(value, 100)


@LAW
@given(SEEDS, st.integers(0, 255), st.booleans())
def test_linear(seed, zero_in, relu):
    """Integers, or all bits of the sums as float32."""
    x, w = random_bytes(seed, 4), weights(seed, 3, 4)
    bias, m = biases(seed, 3), multipliers(seed, 3)
    args = tensors(x, w, bias, m)
    found = arithmetic.linear(*args, zero_in=zero_in, zero=9, **BYTE)[0]
    floats = arithmetic.linear_float(*args, zero_in=zero_in, relu=relu)[0]
    for o in range(3):
        total = int(bias[o]) + sum((int(a) - zero_in) * int(b) for a, b in zip(x, w[o], strict=True))
        value = float32(float32(Fraction(total)) * exact(m[o]))
        assert found[o].item() == requantized(value, 9)
        assert exact(floats[o].item()) == (max(value, 0) if relu else value)


def test_large_sums_are_exact():
    """Sums of 2^31 lose nothing before they become float32; a sum in float32 does."""
    x = torch.full((1, 65_000), 255, dtype=torch.uint8)
    w = torch.full((1, 65_000), 127, dtype=torch.int8)
    w[0, 0] = 126
    one = torch.tensor([1.0])
    found = arithmetic.linear_float(x, w, torch.tensor([-3], dtype=torch.int32), one, zero_in=0,
                                    relu=False)
    assert exact(found.item()) == float32(Fraction(255 * 127 * 65_000 - 255 - 3))


@LAW
@given(SEEDS, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_add_and_multiply(seed, zero_a, zero_b, zero):
    """Sums of two float32 products, and exact products of integers."""
    a, b = random_bytes(seed, 2, 3), random_bytes(seed + 1, 2, 3)
    m, n = (float(v) for v in multipliers(seed, 3)[1:] * np.float32(40))
    ta, tb = (torch.from_numpy(v.astype(np.uint8)) for v in (a, b))
    sums = arithmetic.add(ta, tb, zero_a=zero_a, zero_b=zero_b, multiplier_a=m, multiplier_b=n,
                          zero=zero, **BYTE)
    products = arithmetic.multiply(ta, tb, zero_a=zero_a, zero_b=zero_b, multiplier=n / 100,
                                   zero=zero, **BYTE)
    for at in product(range(2), range(3)):
        p, q = int(a[at]) - zero_a, int(b[at]) - zero_b
        both = float32(float32(p * exact(m)) + float32(q * exact(n)))
        assert sums[at].item() == requantized(both, zero)
        assert products[at].item() == requantized(
            float32(p * q * exact(np.float32(n / 100))), zero)


def test_add_commutes_and_its_twin_does_not():
    """Operands may change places with their numbers, and not without them."""
    a, b = (torch.arange(256, dtype=torch.uint8).reshape(16, 16).roll(s) for s in (0, 5))
    one = arithmetic.add(a, b, zero_a=3, zero_b=9, multiplier_a=0.3, multiplier_b=0.7, zero=0, **BYTE)
    two = arithmetic.add(b, a, zero_a=9, zero_b=3, multiplier_a=0.7, multiplier_b=0.3, zero=0, **BYTE)
    bad = arithmetic.add(b, a, zero_a=3, zero_b=9, multiplier_a=0.3, multiplier_b=0.7, zero=0, **BYTE)
    assert torch.equal(one, two) and not torch.equal(one, bad)


def test_multiply_takes_one_number_per_channel():
    """A gate of N×C×1×1 is the same as one that is spread over the image."""
    image, gate = torch.randint(0, 256, (2, 3, 4, 5)).byte(), torch.randint(0, 256, (2, 3, 1, 1)).byte()
    numbers = dict(zero_a=7, zero_b=0, multiplier=0.004, zero=7, **BYTE)
    spread = arithmetic.multiply(image, gate.expand(2, 3, 4, 5), **numbers)
    assert torch.equal(arithmetic.multiply(image, gate, **numbers), spread)
    assert not torch.equal(arithmetic.multiply(image, gate.flip(1), **numbers), spread)


@LAW
@given(SEEDS, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_matmul(seed, zero_a, zero_b, zero):
    """Exact sums of products, and one float32 product with the multiplier."""
    a, b = random_bytes(seed, 2, 3, 5), random_bytes(seed + 1, 2, 5, 4)
    m = multipliers(seed, 2)[1]
    ta, tb = (torch.from_numpy(v.astype(np.uint8)) for v in (a, b))
    numbers = {"zero_a": zero_a, "zero_b": zero_b}
    floats = arithmetic.matmul_float(ta, tb, **numbers, scale=float(m))
    found = arithmetic.matmul(ta, tb, **numbers, multiplier=float(m), zero=zero, **BYTE)
    for i, row, column in product(range(2), range(3), range(4)):
        total = sum((int(a[i, row, k]) - zero_a) * (int(b[i, k, column]) - zero_b) for k in range(5))
        value = float32(float32(total) * exact(m))
        assert exact(floats[i, row, column]) == value
        assert found[i, row, column].item() == requantized(value, zero)


POOLS = st.sampled_from([
    {"kernel_size": (2, 2), "stride": (2, 2)},
    {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "count_include_pad": False},
    {"kernel_size": (2, 2), "stride": (2, 2), "ceil_mode": True},
    {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "ceil_mode": True}])


def window(at, options, size):
    """(the pixels of one window that lie in the image, what its sum is divided by)."""
    padding, spans, counted = options.get("padding", (0, 0)), [], 1
    for i, axis in enumerate(at):
        start = axis * options["stride"][i] - padding[i]
        end = min(start + options["kernel_size"][i], size[i] + padding[i])
        inside = range(max(start, 0), min(end, size[i]))
        spans.append(inside)
        counted *= end - start if options.get("count_include_pad", True) else len(inside)
    return list(product(*spans)), counted


@LAW
@given(SEEDS, POOLS, st.integers(0, 255), st.booleans())
def test_average_pool(seed, options, zero, rescales):
    """Exact sums, one float32 division, and a multiplier only where the scale changes."""
    x, factor = random_bytes(seed, 5, 6), multipliers(seed, 2)[1] * np.float32(90)
    more = {"multiplier": float(factor)} if rescales else {}
    found = arithmetic.average(torch.from_numpy(x.astype(np.uint8))[None, None], **options, **more,
                               zero_in=zero, zero=zero, **BYTE)[0, 0].numpy()
    for at in product(*map(range, found.shape)):
        pixels, count = window(at, options, x.shape)
        value = float32(Fraction(sum(int(x[p]) - zero for p in pixels), count))
        value = float32(value * exact(factor)) if rescales else value
        assert found[at] == requantized(value, zero)


@LAW
@given(SEEDS, POOLS, st.integers(0, 255))
def test_average_float(seed, options, zero):
    """All bits of the mean, and one float32 product with the scale."""
    x, scale = random_bytes(seed, 5, 6), multipliers(seed, 2)[1]
    found = arithmetic.average_float(torch.from_numpy(x.astype(np.uint8))[None, None], **options,
                                     zero_in=zero, scale=float(scale))[0, 0].numpy()
    for at in product(*map(range, found.shape)):
        pixels, count = window(at, options, x.shape)
        value = float32(Fraction(sum(int(x[p]) - zero for p in pixels), count))
        assert exact(found[at]) == float32(value * exact(scale))


@LAW
@given(SEEDS, POOLS, st.integers(0, 255))
def test_averages_of_signals(seed, options, zero):
    """A signal is an image of one row, whose windows have one row."""
    x = torch.from_numpy(random_bytes(seed, 2, 3, 11).astype(np.uint8))
    across = {k: v[1:] if isinstance(v, tuple) else v for k, v in options.items()}
    flat = {"kernel_size": (1,), "stride": (1,), "padding": (0,)}
    rows = {k: (*flat[k], *v) if k in flat else v for k, v in across.items()}
    numbers = {"zero_in": zero, "zero": zero, **BYTE}
    assert torch.equal(arithmetic.average(x, **across, **numbers)[:, :, None],
                       arithmetic.average(x[:, :, None], **rows, **numbers))
    assert torch.equal(arithmetic.average(x, output_size=(4,), **numbers)[:, :, None],
                       arithmetic.average(x[:, :, None], output_size=(1, 4), **numbers))


@LAW
@given(SEEDS, st.integers(0, 255), st.integers(1, 40))
def test_mean(seed, zero, side):
    """Over an image; `side` squared numbers each."""
    x = random_bytes(seed, 2, side, side)
    found = arithmetic.average(torch.from_numpy(x.astype(np.uint8))[None], dims=(2, 3),
                               zero_in=zero, zero=zero, **BYTE)
    for c in range(2):
        total = sum(int(v) - zero for v in x[c].flat)
        assert found[0, c, 0, 0].item() == requantized(float32(Fraction(total, side**2)), zero)


def test_an_average_that_adds_without_its_zero_point_is_found():
    """The failing twin: ties go to even steps from the zero point, not to even integers."""
    x = torch.tensor([[[[1, 2]]]], dtype=torch.uint8)
    numbers = dict(dims=(2, 3), **BYTE)
    assert arithmetic.average(x, zero_in=1, zero=1, **numbers).item() == 1
    assert arithmetic.average(x, zero_in=0, zero=0, **numbers).item() == 2


@LAW
@given(st.floats(width=32, allow_nan=False), st.floats(2.0**-20, 2.0**20, width=32), st.integers(0, 255))
def test_enter(value, multiplier, zero):
    """One float32 product, rounded half to even and saturated; infinities saturate too."""
    assume(abs(value * multiplier) < 2.0**127 or math.isinf(value))
    found = arithmetic.enter(torch.tensor([value]), multiplier=multiplier, zero=zero, **BYTE)
    if math.isinf(value):
        assert found.item() == (255 if value > 0 else 0)
    else:
        assert found.item() == requantized(float32(exact(value) * exact(multiplier)), zero)


def test_enter_gives_the_largest_integer_for_nan():
    """As native kernels do, and other numbers are not touched by that."""
    found = arithmetic.enter(torch.tensor([math.nan, 1.0]), multiplier=1.0, zero=3, low=0, high=99)
    assert found.tolist() == [99, 4]


@given(st.integers(0, 255), st.floats(2.0**-20, 2.0**10, width=32))
def test_leave(zero, scale):
    """All 256 integers, each by one float32 product; entering again gives them back."""
    every = torch.arange(256, dtype=torch.uint8)
    found = arithmetic.leave(every, zero=zero, scale=scale)
    assert all(exact(v) == float32((q - zero) * exact(scale)) for q, v in enumerate(found.tolist()))
    inverse = float(torch.tensor(1 / scale, dtype=torch.float64).float())
    back = arithmetic.enter(found, multiplier=inverse, zero=zero, **BYTE)
    assert torch.equal(back, every)


def measured(x, low, high):
    """Scale, its inverse and zero point of float32 numbers, in fractions."""
    least, largest = (f([Fraction(0), *(exact(v) for v in x.flat if math.isfinite(v))])
                      for f in (min, max))
    scale = max(float32((largest - least) / (high - low)), Fraction(2) ** -126)
    scale = Fraction(2) ** -23 if least == largest else scale
    return scale, float32(1 / scale), min(max(low - round(least / scale), low), high)


@LAW
@given(SEEDS, st.sampled_from([(0, 255), (0, 15)]), st.booleans(),
       st.sampled_from([1.0, 1e-3, 1e30, 1e-40, 0.0]))
def test_linear_dynamic(seed, bounds, relu, size):
    """One range for the whole input, and a float32 bias behind the product."""
    draw = np.random.default_rng(seed)
    x = (draw.normal(0.3, 1, (3, 4)) * size).astype(np.float32)
    w, bias = weights(seed, 2, 4), draw.normal(0, 1, 2).astype(np.float32)
    m = multipliers(seed, 2)
    found = arithmetic.linear_dynamic(*map(torch.from_numpy, (x, w.astype(np.int8), bias, m)),
                                      low=bounds[0], high=bounds[1], relu=relu)
    scale, inverse, zero = measured(x, *bounds)
    for i, o in product(range(3), range(2)):
        total = sum((requantized(float32(exact(a) * inverse), zero, *bounds) - zero) * int(b)
                    for a, b in zip(x[i], w[o], strict=True))
        value = float32(float32(Fraction(total)) * float32(scale * exact(m[o])))
        value = float32(value + exact(bias[o]))
        assert exact(found[i, o].item()) == (max(value, 0) if relu else value)


def test_linear_dynamic_measures_finite_numbers():
    """What is not finite saturates, NaN at the top; the others are rounded as without it."""
    x = torch.tensor([[1.0, -2.0, 0.5]])
    odd = torch.tensor([[math.nan, math.inf, -math.inf]])
    numbers = (torch.eye(3, dtype=torch.int8), torch.zeros(3), torch.ones(3))
    alone, both = (arithmetic.linear_dynamic(v, *numbers, low=0, high=255, relu=False)
                   for v in (x, torch.cat([x, odd])))
    assert torch.equal(both[:1], alone)
    assert both[1, 0] == both[1, 1] == alone[0, 0] and both[1, 2] == alone[0, 1]


BYTES = torch.arange(64, dtype=torch.uint8).reshape(1, 4, 4, 4)
ONES = torch.ones(4, 4, 1, 1, dtype=torch.int8)
CONSTANTS = (torch.zeros(4, dtype=torch.int32), torch.full((4,), 0.37))
_PLAIN = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
WRONG = {  # a call, and one of its numbers with another value
    "conv": (lambda **n: arithmetic.conv(BYTES, ONES, *CONSTANTS, **_PLAIN, zero=0, **n),
             {"zero_in": 1}, BYTE),
    "conv_add": (lambda **n: arithmetic.conv_add(
        BYTES, ONES, *CONSTANTS, BYTES, **_PLAIN, zero_in=0, zero=0, other_multiplier=1.0, **n),
        {"zero_other": 1}, BYTE),
    "conv_transpose": (lambda **n: arithmetic.conv_transpose(
        BYTES, ONES, *CONSTANTS, **_PLAIN, output_padding=0, zero=0, **n), {"zero_in": 1}, BYTE),
    "linear": (lambda **n: arithmetic.linear(BYTES, ONES[:, :, 0, 0], *CONSTANTS, zero=0, **n),
               {"zero_in": 1}, BYTE),
    "linear_float": (lambda **n: arithmetic.linear_float(
        BYTES, -ONES[:, :, 0, 0], *CONSTANTS, zero_in=0, **n), {"relu": True}, {}),
    "linear_dynamic": (lambda **n: arithmetic.linear_dynamic(
        BYTES.float(), -ONES[:, :, 0, 0], CONSTANTS[1], CONSTANTS[1], low=0, high=255, **n),
        {"relu": True}, {}),
    "multiply": (lambda **n: arithmetic.multiply(BYTES, BYTES, multiplier=0.1, zero_b=0, zero=0, **n),
                 {"zero_a": 1}, BYTE),
    "matmul": (lambda **n: arithmetic.matmul(
        BYTES, BYTES.mT, multiplier=0.1, zero_a=0, zero=0, **n), {"zero_b": 1}, BYTE),
    "matmul_float": (lambda **n: arithmetic.matmul_float(BYTES, BYTES.mT, zero_b=0, scale=0.5, **n),
                     {"zero_a": 1}, {}),
    "average": (lambda **n: arithmetic.average(BYTES, dims=(2, 3), zero_in=0, zero=0, **n, **BYTE),
                {"multiplier": 1.5}, {}),
    "average_float": (lambda **n: arithmetic.average_float(BYTES, dims=(2, 3), scale=0.5, **n),
                      {"zero_in": 1}, {}),
    "leave": (lambda **n: arithmetic.leave(BYTES, scale=0.5, **n), {"zero": 1}, {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_number_counts(name):
    """The failing twins: with one number changed, results are others."""
    call, changed, rest = WRONG[name]
    right = {key: type(value)(1 if key == "multiplier" else 0) for key, value in changed.items()}
    assert not torch.equal(call(**right, **rest), call(**changed, **rest))


def test_look_up_and_concatenate():
    """Tables are read at every integer; parts keep their order."""
    table = torch.randint(0, 256, (256,)).byte()
    x = torch.randint(0, 256, (2, 3, 4, 5)).byte()
    assert arithmetic.look_up(x, table).tolist() == [
        [[[int(table[v]) for v in row] for row in image] for image in batch] for batch in x.tolist()]
    assert not torch.equal(arithmetic.look_up(x, table.flip(0)), arithmetic.look_up(x, table))
    both = arithmetic.concatenate([x, x.flip(1)], dim=1)
    assert torch.equal(both[:, :3], x) and torch.equal(both[:, 3:], x.flip(1))


def test_bytes_enter_by_the_table_of_their_channel():
    """Each byte is the place of its result; another channel's table gives others."""
    tables, x = torch.randint(0, 256, (3, 256)).byte(), torch.randint(0, 256, (2, 3, 4, 5)).byte()
    found = arithmetic.enter_bytes(x, tables)
    for at in product(*map(range, x.shape)):
        assert found[at] == tables[at[1], int(x[at])]
    assert not torch.equal(arithmetic.enter_bytes(x, tables.flip(0)), found)


@pytest.mark.parametrize("dtype, low, high", [(torch.int16, -32768, 32767), (torch.uint8, 0, 15)])
def test_other_widths(dtype, low, high):
    """16 bits, and less than 8: the bounds are the format's, the type holds them."""
    x = torch.tensor([[low, high]], dtype=dtype)
    w = torch.tensor([[1, 0], [0, 1]], dtype=torch.int16)
    found = arithmetic.linear(x, w, torch.tensor([0, 9], dtype=torch.int32), torch.ones(2),
                              zero_in=0, zero=0, low=low, high=high,
                              **({} if dtype is torch.uint8 else {"dtype": dtype}))
    assert found.dtype is dtype and found.tolist() == [[low, high]]


def test_max_pool_of_any_layout():
    """torch itself refuses channels_last bytes of more than 127 pixels."""
    x = torch.arange(576, dtype=torch.int32).remainder(251).to(torch.uint8).reshape(1, 2, 16, 18)
    turned = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(arithmetic.max_pool2d(turned, kernel_size=3),
                       arithmetic.max_pool2d(x, kernel_size=3))


def test_whole_numbers_in_pools_of_other_types():
    """torch has no integer kernel for these: they go through float32, which holds 16 bits."""
    x = torch.randint(-32768, 32767, (2, 3, 8)).short()
    pooled = arithmetic.max_pool1d(x, kernel_size=2)
    assert torch.equal(pooled, x.reshape(2, 3, 4, 2).amax(-1)) and pooled.dtype is torch.int16
    wide = arithmetic.nearest(x[:, None], scale_factor=2)
    assert torch.equal(wide, x[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert not torch.equal(pooled, x.reshape(2, 3, 4, 2)[..., 0])
