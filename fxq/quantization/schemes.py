"""Schemes: what a user asks for by name, as frozen values that can also be built by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fxq.errors import ConfigError, did_you_mean
from fxq.quantization.formats import QSpec, signed, unsigned

S8_PER_CHANNEL, U8 = signed(8, per_channel=True), unsigned(8)


class Mode(StrEnum):
    """What a scheme does with a layer."""

    FLOAT = "left in float32"
    HALF = "computed in half precision"
    STATIC = "computed on integers, with ranges from calibration or training"
    DYNAMIC = "computed on integers, with the range of the input measured at each call"
    WEIGHT_ONLY = "computed in float, with integer weights"


@dataclass(frozen=True)
class Scheme:
    """How a model is to be quantized.

    `weight` and `activation` are the integer formats; the calibrators name the rules that turn
    observed values into ranges ("mse", "percentile:99.9", see `calibrators.py`). `bias` is
    "float", or "int32" at the scale of input times weight. `trained` schemes go through
    `prepare_qat`. `overrides` maps a glob over module paths, or an operator's name, to the name
    of another scheme for those layers.
    """

    name: str
    mode: Mode = Mode.STATIC
    weight: QSpec = S8_PER_CHANNEL
    activation: QSpec = U8
    half: str = ""  # "float16" or "bfloat16", in Mode.HALF
    weight_calibrator: str = "minmax"
    activation_calibrator: str = "mse"
    bias: str = "float"
    trained: bool = False
    pair_safe: bool = True  # keep weights that a 16-bit adder pairs from saturating it
    isa: str = "host"  # CPUs that must give the right numbers: like this one, or "any"
    correct_bias: bool = True  # take back what rounding the weights adds to channel means
    float_averages: bool = True  # averages that 8 bits would spoil are computed in float
    repairs: tuple[str, ...] = ()  # passes that prepare the float graph: `REPAIR_STEPS`
    reconstruction: tuple[str, ...] = ()  # what batches decide: `fxq.reconstruction`
    overrides: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.bias not in ("float", "int32"):
            raise ConfigError(f"bias={self.bias!r}", fix='it is "float" or "int32"')
        if self.isa not in ("host", "any"):
            raise ConfigError(f"isa={self.isa!r}", fix='it is "host" or "any"')

    @property
    def modes(self) -> frozenset[Mode]:
        """The scheme's own mode and those of its overrides."""
        return frozenset({self.mode, *(get_scheme(name).mode for name in self.overrides.values())})

    @property
    def quantized(self) -> bool:
        """Some layer gets integers, or may be kept from half precision by its range."""
        return self.modes != {Mode.FLOAT}

    @property
    def needs_statistics(self) -> bool:
        """Ranges must be known before the model can be converted."""
        return Mode.STATIC in self.modes and not self.trained


def _wide(weight_bits: int, activation_bits: int, **options: object) -> Scheme:
    """Any bit widths; activations beyond 8 bits are symmetric, as 16-bit hardware has them."""
    wide = signed(activation_bits) if activation_bits > 8 else unsigned(activation_bits)
    scheme = Scheme(f"W{weight_bits}A{activation_bits}", weight=signed(
        weight_bits, per_channel=True), activation=wide,
        weight_calibrator="minmax" if weight_bits >= 8 else "mse")
    return replace(scheme, **options)  # type: ignore[arg-type]


def trained(scheme: Scheme) -> Scheme:
    """The same formats, learned: what training saw is not corrected afterwards."""
    return replace(scheme, trained=True, correct_bias=False)


SCHEMES: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("int8_static"),  # u8 affine activations, s8 per-channel weights, real kernels
        Scheme("int8_dynamic", Mode.DYNAMIC),  # linear layers; ranges at run time, no data needed
        Scheme("int8_weight_only", Mode.WEIGHT_ONLY),  # size only, no data needed
        trained(Scheme("int8_qat")),  # trained, then the kernels of int8_static
        _wide(16, 16, name="int16_static"),
        trained(_wide(16, 16, name="int16_qat")),
        _wide(4, 8, name="int4_weight"),
        Scheme("fp16", Mode.HALF, half="float16"),
        Scheme("bf16", Mode.HALF, half="bfloat16"),
        trained(Scheme("fp16_qat", Mode.HALF, half="float16")),
        Scheme("fp32", Mode.FLOAT),  # fusion and clean-up only: the honest baseline
    )
}
_WIDE = re.compile(r"[Ww](\d+)[Aa](\d+)(_qat)?")


FAST, BEST = "fast", "best"
REPAIRS = ("equalize", "equalize-clamps")


def with_accuracy(scheme: Scheme, accuracy: str) -> Scheme:
    """The scheme with all that makes it more accurate ("best"), or as it is ("fast").

    Raises ConfigError for other names, and for schemes that have nothing to repair: those in
    floating point, with ranges measured at run time, or trained.
    """
    if accuracy not in (FAST, BEST):
        raise ConfigError(f"accuracy={accuracy!r}", fix='it is "fast" or "best"')
    if accuracy == FAST:
        return scheme
    if not scheme.needs_statistics:
        raise ConfigError(f"scheme {scheme.name!r} has no better accuracy",
                          why=f"its layers are {scheme.mode}; \"best\" repairs the ranges of "
                              "calibration", fix='drop accuracy="best", or take int8_static')
    learned = ("ranges", "bias") if scheme.weight.bits >= 8 else ("ranges", "rounding", "bias")
    return replace(scheme, repairs=REPAIRS, reconstruction=learned)


def get_scheme(scheme: str | Scheme) -> Scheme:
    """Look a scheme up by name (or `W4A8`); raises ConfigError with the legal names."""
    if isinstance(scheme, Scheme):
        return scheme
    if scheme in SCHEMES:
        return SCHEMES[scheme]
    match = _WIDE.fullmatch(scheme)
    if match is None:
        raise ConfigError(f"unknown scheme {scheme!r}", fix=did_you_mean(
            scheme, [*SCHEMES, "W<bits>A<bits>"]))
    weight, activation = int(match[1]), int(match[2])
    if not (2 <= weight <= 16 and 2 <= activation <= 16):
        raise ConfigError(f"scheme {scheme!r} is out of range", fix="2 to 16 bits on each side")
    found = _wide(weight, activation)
    return replace(trained(found), name=f"{found.name}_qat") if match[3] else found
