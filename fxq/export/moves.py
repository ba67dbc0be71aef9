"""ONNX nodes for what moves, selects and resizes values, and for sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import Node

from fxq.export.site import NoRow, Row, Site, each, fixed
from fxq.ir.facts import info

_END = 2**63 - 1


def _flatten(site: Site) -> str:
    """A zero in a shape keeps a dimension, so that the batch stays free."""
    start, end = (site.axis(site.attributes[k]) for k in ("start_dim", "end_dim"))
    return site.call("Reshape", site.x,
                     site.ints([*[0] * start, -1, *site.input_shape[end + 1:]]))


def _permute(site: Site) -> str:
    return site.call("Transpose", site.x, perm=[site.axis(d) for d in site.attributes["dims"]])


def _transpose(site: Site) -> str:
    order = list(range(len(site.input_shape)))
    a, b = (site.axis(site.attributes[k]) for k in ("dim0", "dim1"))
    order[a], order[b] = order[b], order[a]
    return site.call("Transpose", site.x, perm=order)


def _squeeze(site: Site) -> str:
    shape, dim = site.input_shape, site.attributes["dim"]
    axes = range(len(shape)) if dim is None else [site.axis(d) for d in each(dim, 1)]
    ones = [a for a in axes if shape[a] == 1]
    return site.call("Squeeze", site.x, site.ints(ones)) if ones else site.x


def _unsqueeze(site: Site) -> str:
    dim = int(site.attributes["dim"]) % (len(site.input_shape) + 1)
    return site.call("Unsqueeze", site.x, site.ints([dim]))


def cut(site: Site, x: str, axis: int, start: int, stop: int, step: int = 1) -> str:
    """The part of a value from `start` to before `stop` along one dimension."""
    return site.call("Slice", x, *(site.ints([v]) for v in (start, stop, axis, step)))


def _narrow(site: Site) -> str:
    start, length = (int(fixed(site.attributes[k], k)) for k in ("start", "length"))
    stop = start + length
    return cut(site, site.x, site.axis(site.attributes["dim"]), start,
               _END if start < 0 and stop == 0 else stop)


def _roll(site: Site) -> str:
    shifts, dims = (fixed(site.attributes[k], k) for k in ("shifts", "dims"))
    dims, x = each(dims, 1), site.x
    if not dims:
        raise NoRow("it rolls all dimensions as one")
    for shift, dim in zip(each(shifts, len(dims)), dims, strict=True):
        axis = site.axis(dim)
        at = -shift % site.input_shape[axis]
        x = site.call("Concat", cut(site, x, axis, at, _END), cut(site, x, axis, 0, at),
                      axis=axis) if at else x
    return x


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge",
              "circular": "wrap"}


def _pad(site: Site) -> str:
    """torch names the last dimension first, two numbers for each; ONNX names all of them.

    (It could name axes, but ONNX Runtime's transposes lose those.)
    """
    amounts = each(fixed(site.attributes["pad"], "padding"), 1)
    rest = [0] * (len(site.input_shape) - len(amounts) // 2)
    pads = [*rest, *amounts[-2::-2], *rest, *amounts[::-2]]
    value = site.attributes["value"]
    return site.call("Pad", site.x, site.ints(pads), site.number(value) if value else None,
                     mode=_PAD_MODES[site.attributes["mode"]])


_RESIZE: Mapping[str, Mapping[str, Any]] = {
    "nearest": {"mode": "nearest", "nearest_mode": "floor",
                "coordinate_transformation_mode": "asymmetric"},
    "nearest-exact": {"mode": "nearest", "nearest_mode": "round_prefer_ceil",
                      "coordinate_transformation_mode": "half_pixel"},
    "linear": {"mode": "linear"}, "bilinear": {"mode": "linear"}, "trilinear": {"mode": "linear"},
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.75}}


def _interpolate(site: Site) -> str:
    """By factors where the model names them, else to the sizes of the example's result."""
    a, rank = site.attributes, len(site.input_shape) - 2
    if a["mode"] not in _RESIZE or a["antialias"]:
        raise NoRow(f"mode {a['mode']!r}" + (" with antialias" if a["antialias"] else ""))
    options = dict(_RESIZE[a["mode"]])
    options.setdefault("coordinate_transformation_mode",
                       "align_corners" if a["align_corners"] else "half_pixel")
    by_factor = a["scale_factor"] is not None and not a["recompute_scale_factor"]
    if by_factor:
        factors = fixed(a["scale_factor"], "its factor")
        factors = list(factors) if isinstance(factors, list | tuple) else [factors] * rank
        scales = site.draft.small([1.0, 1.0, *factors], site.dtype)
        return site.call("Resize", site.x, None, scales, **options)
    head = site.call("Shape", site.x, start=0, end=2)
    wanted = site.call("Concat", head, site.ints(site.shape[2:]), axis=0)
    return site.call("Resize", site.x, None, None, wanted, **options)


def _regroup(site: Site, inner: list[int], order: list[int], outer: list[int]) -> str:
    """Split dimensions, permute them, join them; the batch is kept."""
    split = site.call("Reshape", site.x, site.ints([0, *inner]))
    return site.call("Reshape", site.call("Transpose", split, perm=[0, *order]),
                     site.ints([0, *outer]))


def _channel_shuffle(site: Site) -> str:
    channels, *image = site.input_shape[1:]
    groups = int(site.attributes["groups"])
    rest = [3 + i for i in range(len(image))]
    return _regroup(site, [groups, channels // groups, *image], [2, 1, *rest], [channels, *image])


def _pixel_unshuffle(site: Site) -> str:
    """SpaceToDepth puts the channels last; torch puts them first."""
    (channels, height, width), r = site.input_shape[1:], int(site.attributes["downscale_factor"])
    return _regroup(site, [channels, height // r, r, width // r, r], [1, 3, 5, 2, 4],
                    [channels * r * r, height // r, width // r])


def _pixel_shuffle(site: Site) -> str:
    return site.call("DepthToSpace", site.x, mode="CRD",
                     blocksize=int(site.attributes["upscale_factor"]))


def _stack(site: Site) -> str:
    dim = int(site.attributes["dim"]) % (len(site.input_shape) + 1)
    parts = [site.call("Unsqueeze", x, site.ints([dim])) for x in site.operands[0]]
    return site.call("Concat", *parts, axis=dim)


def _getitem(site: Site) -> str:
    """Numbers, slices, None and an ellipsis, from left to right; or a tensor of whole numbers."""
    index = site.attributes["index"]
    if isinstance(index, Node) and info(index).dtype in (torch.int32, torch.int64):
        return site.call("Gather", site.x, site.names[index])
    items = list(index) if isinstance(index, tuple) else [index]
    if not all(i is None or i is Ellipsis or type(i) is int or isinstance(i, slice)
               for i in items):
        raise NoRow("an index that is computed, or a list")
    if Ellipsis not in items:
        items.append(Ellipsis)
    at = items.index(Ellipsis)
    used = sum(i is not None and i is not Ellipsis for i in items)
    items[at:at + 1] = [slice(None)] * (len(site.input_shape) - used)
    return _indexed(site, items)


def _indexed(site: Site, items: list[Any]) -> str:
    x, axis, gone, new = site.x, 0, [], []
    kept = 0
    for item in items:
        if item is None:
            new.append(kept)
            kept += 1
            continue
        if isinstance(item, int):
            x = cut(site, x, axis, item, item + 1 or _END)
            gone.append(axis)
        else:
            x = _sliced(site, x, axis, item)
            kept += 1
        axis += 1
    x = site.call("Squeeze", x, site.ints(gone)) if gone else x
    return site.call("Unsqueeze", x, site.ints(new)) if new else x


def _sliced(site: Site, x: str, axis: int, item: slice) -> str:
    parts = fixed((item.start, item.stop, item.step), "a slice")
    if parts == (None, None, None):
        return x
    start, stop, step = parts
    return cut(site, x, axis, start or 0, _END if stop is None else stop, step or 1)


def _size(site: Site) -> str:
    dim = site.attributes["dim"]
    if dim is None:
        return site.call("Shape", site.x)
    if isinstance(dim, slice):
        return _sliced(site, site.call("Shape", site.x), 0, dim)
    axis = site.axis(dim)
    return site.call("Shape", site.x, start=axis, end=axis + 1)


MOVES: Mapping[str, Row] = {
    "flatten": _flatten, "permute": _permute, "transpose": _transpose, "squeeze": _squeeze,
    "unsqueeze": _unsqueeze, "narrow": _narrow, "roll": _roll, "pad": _pad,
    "interpolate": _interpolate, "channel_shuffle": _channel_shuffle,
    "pixel_shuffle": _pixel_shuffle, "pixel_unshuffle": _pixel_unshuffle, "stack": _stack,
    "getitem": _getitem, "size": _size, "contiguous": lambda s: s.x,
    "reshape": lambda s: s.call("Reshape", s.x, s.sizes(s.attributes["shape"])),
    "cat": lambda s: s.call("Concat", *s.operands[0], axis=s.axis(s.attributes["dim"]))}
