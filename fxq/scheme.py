"""Schemes: what a user asks for by name, as frozen values that can also be built by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fxq.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Scheme:
    """How a model is to be quantized.

    `activation_calibrator` names the rule that turns observed values into a range; weights take
    the largest magnitude of each channel. `overrides` maps a glob over module paths, or an
    operator's name, to the name of another scheme (today only "fp32": leave it in float).
    """

    name: str
    quantized: bool = True
    activation_calibrator: str = "mse"
    pair_safe: bool = True  # keep weights that a 16-bit adder pairs from saturating it
    correct_bias: bool = True  # take back what rounding the weights adds to channel means
    float_averages: bool = True  # averages that 8 bits would spoil are computed in float
    overrides: Mapping[str, str] = field(default_factory=dict)


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("int8_static"),  # u8 affine activations, s8 per-channel weights, real kernels
        Scheme("fp32", quantized=False),  # fusion and clean-up only: the honest baseline
    )
}


def get_scheme(scheme: str | Scheme) -> Scheme:
    """Look a scheme up by name; raises ConfigError with the legal names."""
    if isinstance(scheme, Scheme):
        return scheme
    if scheme not in SCHEMES:
        raise ConfigError(f"unknown scheme {scheme!r}", fix=did_you_mean(scheme, SCHEMES))
    return SCHEMES[scheme]
