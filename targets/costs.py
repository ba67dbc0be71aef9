"""Measured costs that placement decides by; `benchmarks/costs.py` prints them anew.

They are checked in, so that the same inputs give the same graph on every machine. The thresholds
hold on an AMD EPYC and an Intel Xeon with VNNI, torch 2.15. The functions' times are both machines'
in one, weighed by `benchmarks/combine_costs.py` so that the larger loss of the two is small.
"""

from __future__ import annotations

from collections.abc import Mapping

from fxq.kernels.lookup_tables import FunctionCosts
from fxq.kernels.region_costs import RegionCosts, Work

# x86: from these sizes on, oneDNN's convolutions are faster than FBGEMM's
ONEDNN_OUTPUTS = 60_000  # elements of one image's output
ONEDNN_MACS = 8_000_000

# fbgemm: channels up to which a slow depthwise convolution is packed as a dense one
LARGEST_EXPANSION = 1024

# values -> microseconds of an elementwise function without a kernel: as a table of 256 results, and
# each function in float between integers
SIZES = (16, 240, 1_568, 12_544, 47_040, 75_264, 401_408)
TABLE = (7.8, 8.6, 10.9, 32.4, 63.1, 94.6, 588.0)
BETWEEN: Mapping[str, tuple[float, ...]] = {
    "silu": (5.2, 5.6, 7.8, 19.1, 35.9, 53.7, 292.0),
    "gelu": (13.8, 13.8, 8.8, 24.3, 43.6, 64.3, 380.4),
    "mish": (6.1, 8.2, 14.4, 64.0, 158.8, 247.5, 1495.9),
    "softplus": (5.7, 6.7, 10.4, 32.4, 60.4, 92.1, 658.4),
    "prelu": (7.1, 6.8, 7.5, 12.6, 16.6, 22.4, 135.5),
    "pow": (6.6, 6.7, 7.5, 12.2, 17.2, 22.7, 134.9),
    "celu": (6.0, 6.7, 10.1, 31.6, 49.7, 97.7, 633.8),
    "selu": (5.8, 6.6, 9.9, 31.4, 64.9, 98.0, 590.8),
    "softsign": (9.4, 9.8, 10.8, 20.8, 29.5, 41.6, 311.8),
    "logsigmoid": (6.6, 7.2, 12.2, 36.8, 84.7, 179.4, 1166.0),
    "tanhshrink": (6.9, 7.3, 9.0, 22.7, 46.5, 68.5, 535.4),
    "softshrink": (5.4, 5.6, 6.6, 11.9, 16.9, 23.9, 138.7),
    "hardshrink": (5.4, 5.5, 6.4, 11.4, 15.6, 21.9, 132.7),
    "threshold": (8.0, 8.0, 9.0, 14.5, 18.4, 25.1, 141.3),
    "abs": (5.8, 5.9, 6.7, 11.6, 15.4, 21.8, 133.0),
    "neg": (5.5, 5.5, 6.4, 11.3, 15.3, 21.1, 131.0),
    "erf": (5.7, 6.2, 8.8, 15.0, 36.9, 54.2, 333.9),
    "sin": (5.7, 6.1, 7.7, 14.6, 33.8, 48.8, 320.3),
    "cos": (6.1, 6.0, 7.7, 14.1, 34.8, 50.8, 348.5),
    "add": (7.1, 7.2, 8.3, 13.5, 16.9, 24.2, 146.5),
    "sub": (7.1, 7.3, 8.2, 13.5, 17.1, 23.8, 146.0),
    "rsub": (7.3, 7.4, 8.3, 13.6, 17.2, 24.0, 145.8),
    "mul": (7.0, 7.6, 8.1, 13.4, 16.9, 23.7, 145.9),
    "div": (7.1, 7.4, 8.3, 14.4, 19.5, 27.1, 147.7),
}
FUNCTIONS = FunctionCosts(SIZES, TABLE, BETWEEN)

# native: nanoseconds on one thread of a Xeon with AVX-512 VNNI, by `benchmarks/region_costs.py`
REGIONS = RegionCosts(
    #             call   mac     grouped  result  weight
    floats=Work(  5_500, 0.0135, 0.072,   0.65,   0.13),
    integers=Work(7_700, 0.0027, 0.0066,  0.10,   0.007),
    enter=0.19, leave=0.15, output=0.26, least_loss=3_000)
