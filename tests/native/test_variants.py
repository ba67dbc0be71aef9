"""Variants of steps: the same bits whichever is taken; unknown ones are refused."""

import itertools

import pytest
import torch

from fxq.errors import FxqError
from fxq.kernels.native import library
from fxq.kernels.native.library import why_not
from fxq.kernels.native.structs import VARIANTS
from tests.native.programs import program, rows, scores, step, view

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def varied(variant, images=3):
    views, steps = rows(images)
    return program(images, views=views, steps=[s | {"variant": variant} for s in steps])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_variant_of_every_step_gives_the_same_bits(threads):
    """A network with a table, a residual sum, a pool and a float layer, one image per thread or not."""
    expected = scores(program(3), 3)
    for variant in VARIANTS:
        assert torch.equal(scores(varied(variant), 3, threads), expected)


def layer_alone(op, c, outputs, size, kernel, variant, threads=2):
    """A layer of many chunks and panels, from a tensor of the caller to another."""
    draw = torch.Generator().manual_seed(c)
    groups = outputs if op == "DEPTHWISE" else 1
    integers = lambda low, high, *s, dtype: torch.randint(  # noqa: E731
        low, high, s, generator=draw, dtype=dtype)
    layer = library.Layer(integers(-99, 99, outputs, c // groups, kernel, kernel, dtype=torch.int8),
                          integers(-999, 999, outputs, dtype=torch.int32),
                          torch.full((outputs,), 0.002), groups=groups)
    out = size - kernel + 1
    x = integers(0, 256, size * size * c + library.SLACK, dtype=torch.uint8)
    y = torch.zeros(out * out * outputs, dtype=torch.uint8)
    views = [view(library.EXTERNAL, size, size, c), view(library.EXTERNAL + 1, out, out, outputs)]
    code = step(op, 0, 1, layer=0, kh=kernel, kw=kernel, groups=groups, variant=variant)
    made = library.Program([library.Instruction(**code)], [library.View(**v) for v in views],
                           [layer], [], 64, 64, 1, [len(x), len(y)])
    made.run([x.data_ptr(), y.data_ptr()], threads)
    return y


@pytest.mark.parametrize("op, c, outputs, size, kernel", [
    ("CONV", 40, 200, 23, 1), ("CONV", 16, 130, 17, 3), ("CONV", 64, 300, 5, 5),
    ("DEPTHWISE", 72, 72, 19, 3)])
def test_layers_cut_and_packed_in_every_way_give_the_same_bits(op, c, outputs, size, kernel):
    """Odd numbers of rows and panels, so that no two splits are alike."""
    expected = layer_alone(op, c, outputs, size, kernel, 0, threads=1)
    assert len(expected.unique()) > 20
    for variant in VARIANTS:
        assert torch.equal(layer_alone(op, c, outputs, size, kernel, variant), expected)


def test_variants_choose_kernels():
    """The lowest byte caps the instruction set."""
    best, capped = program(2), varied(1 + library.ISAS.index("plain"), 2)
    assert {k.split()[1] for k in capped.kernels} == {"plain"}
    assert library.isa() == "plain" or best.kernels != capped.kernels


@pytest.mark.parametrize("variant", [
    -1, 1 + len(library.ISAS), 5 << 8, 255 << 8, 2 << 16, 1 << 24, 2**31 - 1, -2**31])
def test_unknown_variants_are_refused(variant):
    """A file's, or a cache's."""
    assert variant not in VARIANTS
    with pytest.raises(FxqError, match=r"(?s)step 0.*unknown variant"):
        varied(variant)


def test_variants_are_all_that_the_library_takes():
    """Python's table and the check agree."""
    for variant in {k | s << 8 | p << 16 for k, s, p in itertools.product(
            range(8), range(7), range(3))} - set(VARIANTS):
        with pytest.raises(FxqError, match="unknown variant"):
            varied(variant)
