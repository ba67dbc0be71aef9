"""ONNX nodes for functions of single values and of pairs."""

from __future__ import annotations

from collections.abc import Mapping

from fxq.export.site import NoRow, Row, Site


def plain(op: str, **attributes: str) -> Row:
    """One node; `attributes` says which of the operator's own each of the node's is."""
    return lambda site: site.call(op, *site.operands, **{
        name: float(site.attributes[own]) for name, own in attributes.items()})


def _clamp(site: Site) -> str:
    bounds = [site.attributes[name] for name in ("min", "max")]
    if not all(v is None or isinstance(v, int | float) for v in bounds):
        raise NoRow("its bounds are computed")
    return site.call("Clip", site.x, *(None if v is None else site.number(v) for v in bounds))


def _softplus(site: Site) -> str:
    """Beyond the threshold torch takes x itself, which differs by less than float32 holds."""
    beta, threshold = site.attributes["beta"], site.attributes["threshold"]
    if threshold < 20:
        raise NoRow(f"a threshold of {threshold}")
    if beta == 1:
        return site.call("Softplus", site.x)
    scaled = site.call("Softplus", site.call("Mul", site.x, site.number(beta)))
    return site.call("Div", scaled, site.number(beta))


def _prelu(site: Site) -> str:
    """The slopes along the channels, which are the second dimension."""
    x, weight = site.operands
    return site.call("PRelu", x, site.per_channel(weight))


def _threshold(site: Site) -> str:
    above = site.call("Greater", site.x, site.number(site.attributes["threshold"]))
    return site.call("Where", above, site.x, site.number(site.attributes["value"]))


def _pow(site: Site) -> str:
    return site.call("Pow", site.x, site.number(site.attributes["exponent"]))


def _softmax(op: str) -> Row:
    def row(site: Site) -> str:
        if site.attributes["dim"] is None:
            raise NoRow("no dimension is named")
        return site.call(op, site.x, axis=site.axis(site.attributes["dim"]))
    return row


FUNCTIONS: Mapping[str, Row] = {
    **{name: plain(op) for name, op in (
        ("relu", "Relu"), ("hardswish", "HardSwish"), ("mish", "Mish"), ("selu", "Selu"),
        ("softsign", "Softsign"), ("abs", "Abs"), ("neg", "Neg"), ("erf", "Erf"), ("sin", "Sin"),
        ("cos", "Cos"), ("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("add", "Add"), ("sub", "Sub"),
        ("mul", "Mul"), ("div", "Div"))},
    "leaky_relu": plain("LeakyRelu", alpha="negative_slope"), "elu": plain("Elu", alpha="alpha"),
    "celu": plain("Celu", alpha="alpha"), "clamp": _clamp, "softplus": _softplus,
    "softmax": _softmax("Softmax"), "log_softmax": _softmax("LogSoftmax"), "prelu": _prelu,
    "threshold": _threshold, "pow": _pow,
    "rsub": lambda s: s.call("Sub", *reversed(s.operands)),
    "silu": lambda s: s.call("Mul", s.x, s.call("Sigmoid", s.x)),
    "hardsigmoid": lambda s: s.call("HardSigmoid", s.x, alpha=1 / 6, beta=0.5),
    "gelu": lambda s: s.call("Gelu", s.x, approximate=s.attributes["approximate"]),
    "logsigmoid": lambda s: s.call("Neg", s.call("Softplus", s.call("Neg", s.x))),
    "tanhshrink": lambda s: s.call("Sub", s.x, s.call("Tanh", s.x)),
    "softshrink": lambda s: s.call("Shrink", s.x, lambd=float(s.attributes["lambd"]),
                                   bias=float(s.attributes["lambd"])),
    "hardshrink": lambda s: s.call("Shrink", s.x, lambd=float(s.attributes["lambd"]), bias=0.0)}
