"""Measured costs that placement decides by; `benchmarks/costs.py` prints them anew.

They are checked in, so that the same inputs give the same graph on every machine. Measured on an
AMD EPYC with VNNI, 2 threads, torch 2.15.
"""

from __future__ import annotations

# x86: from these sizes on, oneDNN's convolutions are faster than FBGEMM's
ONEDNN_OUTPUTS = 60_000  # elements of one image's output
ONEDNN_MACS = 8_000_000

# fbgemm: channels up to which a slow depthwise convolution is packed as a dense one
LARGEST_EXPANSION = 1024

# elements -> microseconds of an elementwise function: as a table of 256, as float in between
FUNCTION: tuple[tuple[int, float, float], ...] = (
    (16, 5.0, 7.0),
    (1_568, 8.0, 8.0),
    (47_040, 47.0, 17.0),
    (401_408, 400.0, 80.0),
)
