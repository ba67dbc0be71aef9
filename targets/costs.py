"""Measured costs that placement decides by; `benchmarks/costs.py` prints them anew.

They are checked in, so that the same inputs give the same graph on every machine. Measured on an
AMD EPYC with VNNI, 2 threads, torch 2.15.
"""

from __future__ import annotations

from collections.abc import Mapping

# x86: from these sizes on, oneDNN's convolutions are faster than FBGEMM's
ONEDNN_OUTPUTS = 60_000  # elements of one image's output
ONEDNN_MACS = 8_000_000

# fbgemm: channels up to which a slow depthwise convolution is packed as a dense one
LARGEST_EXPANSION = 1024

# values -> microseconds of an elementwise function without a kernel: as a table of 256 results, and
# each function in float between integers
SIZES = (16, 240, 1_568, 12_544, 47_040, 75_264, 401_408)
TABLE = (8.6, 9.3, 11.8, 30.6, 60.3, 88.3, 417.6)
BETWEEN: Mapping[str, tuple[float, ...]] = {
    "silu": (6.3, 6.5, 7.2, 12.9, 21.6, 30.9, 126.9),
    "gelu": (15.7, 15.4, 8.8, 23.2, 29.2, 41.6, 192.0),
    "mish": (7.4, 8.4, 13.4, 58.9, 102.9, 159.1, 822.1),
    "softplus": (6.8, 7.3, 9.5, 29.0, 47.9, 71.4, 355.7),
    "prelu": (7.8, 8.2, 8.7, 15.0, 16.1, 20.6, 66.0),
    "pow": (7.3, 7.5, 8.1, 14.3, 15.4, 19.7, 67.2),
    "celu": (7.2, 7.7, 9.8, 27.8, 45.1, 67.0, 366.3),
    "selu": (6.9, 7.4, 9.5, 27.5, 44.8, 66.6, 322.9),
    "softsign": (11.7, 12.5, 13.8, 24.4, 29.4, 37.7, 162.0),
    "logsigmoid": (7.9, 8.3, 11.5, 34.1, 65.7, 100.6, 547.3),
    "tanhshrink": (7.9, 8.8, 12.9, 31.1, 78.0, 118.7, 584.1),
    "softshrink": (6.5, 6.8, 7.6, 14.1, 15.5, 20.6, 72.8),
    "hardshrink": (6.6, 6.9, 7.7, 13.9, 14.7, 19.4, 66.6),
    "threshold": (9.4, 9.8, 10.5, 16.8, 18.2, 23.1, 72.5),
    "abs": (6.9, 7.2, 7.9, 14.2, 15.1, 19.7, 67.5),
    "neg": (6.5, 6.8, 7.4, 13.7, 14.4, 19.1, 66.7),
    "erf": (6.6, 7.4, 10.2, 17.7, 43.0, 64.4, 308.9),
    "sin": (6.7, 7.3, 10.1, 17.6, 42.9, 64.3, 303.5),
    "cos": (6.6, 7.2, 10.1, 17.7, 43.9, 65.6, 313.8),
    "add": (8.6, 9.1, 9.9, 16.2, 17.4, 22.5, 66.9),
    "sub": (8.6, 9.0, 9.7, 16.1, 17.4, 22.4, 66.4),
    "rsub": (8.8, 9.3, 10.0, 16.4, 17.7, 22.8, 67.9),
    "mul": (8.6, 9.1, 9.8, 16.1, 17.3, 22.5, 66.3),
    "div": (8.7, 9.2, 9.8, 16.4, 18.0, 23.1, 70.0),
}
