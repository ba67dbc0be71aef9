"""The structures and numbers of native.h, as ctypes sees them."""

from __future__ import annotations

import ctypes

_INT, _LONG, _FLOAT = ctypes.c_int32, ctypes.c_int64, ctypes.c_float

_OPS = ("ENTER", "LEAVE", "CONV", "DEPTHWISE", "ADD", "MULTIPLY", "TABLE", "MAX_POOL",
        "AVERAGE_POOL", "SHUFFLE", "NEAREST", "FLATTEN", "TRANSPOSED", "RANGE", "RESCALE",
        "MATMUL")
OPS = {name: number for number, name in enumerate(_OPS)}
ISAS = ("plain", "neon", "avx2", "avxvnni", "vnni", "amx")
LANE, WIDE, EXTERNAL = 0, 1, 2
WIDE_STEP, FLOAT_OUT, RESIDUAL, INCLUDE_PAD, ADAPTIVE, MEASURED, SUMS_OUT, CHANNEL_TABLES = (
    1 << bit for bit in range(8))
SLACK = 64
# How a step is computed, by bytes: see `variant` in native.h. 0 is the rule.
SPLITS = ("by rule", "whole", "half", "double", "across")
VARIANTS = {kernel | split << 8 | panel << 16: None for kernel in range(len(ISAS) + 1)
            for split in range(len(SPLITS)) for panel in (0, 1)}


class View(ctypes.Structure):
    """Where a value lies; see native.h."""

    _fields_ = (
        ("space", _INT), ("zero_point", _INT), ("offset", _LONG), ("image", _LONG),
        ("h", _INT), ("w", _INT), ("c", _INT), ("element", _INT),
        ("row", _LONG), ("pixel", _LONG), ("channel", _LONG),
        ("top", _INT), ("left", _INT), ("bottom", _INT), ("right", _INT))


class Instruction(ctypes.Structure):
    """One step; see native.h."""

    _fields_ = (
        ("op", _INT), ("flags", _INT), ("in", _INT), ("other", _INT), ("out", _INT),
        ("layer", _INT), ("table", _INT), ("kh", _INT), ("kw", _INT), ("sh", _INT), ("sw", _INT),
        ("dh", _INT), ("dw", _INT), ("ph", _INT), ("pw", _INT), ("groups", _INT),
        ("zero_in", _INT), ("zero_other", _INT), ("zero_out", _INT), ("low", _INT),
        ("high", _INT), ("m0", _FLOAT), ("m1", _FLOAT),
        ("variant", _INT))


class LayerFields(ctypes.Structure):
    """A layer's sizes and the addresses of its numbers; see native.h."""

    _fields_ = (
        ("outputs", _INT), ("inputs", _INT), ("groups", _INT), ("kh", _INT), ("kw", _INT),
        ("transposed", _INT), ("zero_in", _INT), ("borrowed", _INT),
        ("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("multiplier", ctypes.c_void_p),
        ("addend", ctypes.c_void_p))
