"""A small network as a program: float images in, scores out, lanes and wide memory on the way."""

import torch

from fxq.kernels.native.library import (
    EXTERNAL,
    FLOAT_OUT,
    LANE,
    OPS,
    WIDE,
    WIDE_STEP,
    Instruction,
    Layer,
    Program,
    View,
)

SIZE, CHANNELS, CLASSES = 8, 16, 10
LANE_BYTES, WIDE_BYTES = 12288, 128


def view(space, h, w, c, offset=0, *, image=0, element=1, border=0, zero=0):
    """NHWC without gaps; `offset` is where the border begins."""
    pixel = c * element
    row = (w + 2 * border) * pixel
    return {"space": space, "zero_point": zero, "offset": offset + border * (row + pixel),
            "image": image, "h": h, "w": w, "c": c, "element": element, "row": row, "pixel": pixel,
            "channel": element, "top": border, "left": border, "bottom": border, "right": border}


def step(op, source, out, **fields):
    """An instruction whose other fields do nothing."""
    plain = {"other": -1, "layer": -1, "table": -1, "high": 255, "groups": 1, "m0": 1.0, "m1": 1.0}
    plain |= dict.fromkeys(("kh", "kw", "sh", "sw", "dh", "dw"), 1)
    return {"op": OPS[op], "in": source, "out": out, **plain, **fields}


def rows(images):
    """(views, steps) of the network."""
    entry = view(EXTERNAL, SIZE, SIZE, 3, image=3 * SIZE * SIZE * 4, element=4)
    entry |= {"row": SIZE * 4, "pixel": 4, "channel": SIZE * SIZE * 4}  # NCHW
    views = [
        entry,
        view(LANE, SIZE, SIZE, 3, 0, border=1, zero=7),
        view(LANE, SIZE, SIZE, CHANNELS, 4096, zero=5),
        view(LANE, SIZE, SIZE, CHANNELS, 8192, zero=9),
        view(WIDE, 1, 1, CHANNELS, 0, image=WIDE_BYTES),
        view(EXTERNAL + 1, 1, 1, CLASSES, image=CLASSES * 4, element=4)]
    steps = [
        step("ENTER", 0, 1, zero_out=7, m0=20.0),
        step("CONV", 1, 2, layer=0, kh=3, kw=3, ph=1, pw=1, zero_in=7, zero_out=5, table=0),
        step("ADD", 2, 3, other=2, zero_in=5, zero_other=5, zero_out=9, m0=0.3, m1=0.4),
        step("AVERAGE_POOL", 3, 4, kh=SIZE, kw=SIZE, zero_in=9, zero_out=9),
        step("CONV", 4, 5, layer=1, flags=WIDE_STEP | FLOAT_OUT, zero_in=9)]
    return views, steps


def layers():
    """The weights of its two convolutions."""
    draw = torch.Generator().manual_seed(0)
    weight = lambda *s: torch.randint(-127, 128, s, dtype=torch.int8, generator=draw)  # noqa: E731
    bias = lambda n: torch.randint(-999, 999, (n,), dtype=torch.int32, generator=draw)  # noqa: E731
    return [Layer(weight(CHANNELS, 3, 3, 3), bias(CHANNELS), torch.full((CHANNELS,), 0.004),
                  zero_in=7),
            Layer(weight(CLASSES, CHANNELS), bias(CLASSES), torch.full((CLASSES,), 0.01),
                  zero_in=9)]


def tensors(images):
    """An input, and room for the scores."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(images, 3, SIZE, SIZE, generator=draw), torch.zeros(images, CLASSES)


def program(images, *, views=None, steps=None, memory=(LANE_BYTES, WIDE_BYTES), isa=None):
    """The network, or one with other views or steps."""
    plain_views, plain_steps = rows(images)
    sizes = [t.numel() * 4 for t in tensors(images)]
    return Program([Instruction(**s) for s in steps or plain_steps],
                   [View(**v) for v in views or plain_views], layers(),
                   [torch.arange(256, dtype=torch.uint8).flip(0)], *memory, images, sizes, isa)


def scores(made, images, threads=1):
    """What a program computes."""
    x, y = tensors(images)
    made.run([x.data_ptr(), y.data_ptr()], threads)
    return y
