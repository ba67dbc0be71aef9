"""Which scheme runs on which target, and what a reader of the figures must know about it."""

from __future__ import annotations

from tabulate import tabulate

from fxq.analysis.context import Context
from fxq.errors import ConfigError
from fxq.quantization.schemes import SCHEMES, Mode, Scheme, get_scheme
from fxq.targets import TARGETS, Target

_MIXABLE = {Mode.FLOAT, Mode.STATIC, Mode.DYNAMIC, Mode.WEIGHT_ONLY}


def check_legal(target: Target, scheme: Scheme) -> None:
    """Raise ConfigError when the target cannot run the scheme or one of its overrides."""
    for part in (scheme, *(get_scheme(name) for name in scheme.overrides.values())):
        reason = target.why_not_scheme(part)
        if reason:
            raise ConfigError(f"target {target.name!r} does not run scheme {part.name!r}",
                              why=reason, fix=_ways_out(target, part))
    if Mode.HALF in scheme.modes and not scheme.modes <= {Mode.HALF, Mode.FLOAT}:
        raise ConfigError("half precision and integers cannot be mixed in one model",
                          fix="override with fp32, or choose integers for all layers")


def _ways_out(target: Target, scheme: Scheme) -> str:
    legal = [name for name, known in SCHEMES.items() if target.why_not_scheme(known) is None]
    homes = [t.name for t in TARGETS.values() if t.why_not_scheme(scheme) is None]
    return (f"{target.name} runs: {', '.join(legal)}\n"
            f"{scheme.name} runs on: {', '.join(homes) or 'no target'}")


def note_on(context: Context) -> str:
    """One sentence where the compiled model is not what its size and speed seem to say."""
    scheme, target = context.scheme, context.target
    if target.device == "cuda" and not target.is_available():
        return ("this machine has no CUDA device: the graph was checked on the CPU, in its own "
                "types, and can be inspected and saved, but not run")
    if scheme.mode is Mode.HALF and not context.native_half:
        return (f"emulation: this CPU has no {scheme.half} arithmetic, so layers multiply in "
                "float32 and round; the numbers are right, the speed is not")
    if target.simulates and scheme.quantized and scheme.mode is not Mode.HALF:
        return (f"simulation: {scheme.name} is computed on plain integer tensors and in float; "
                "the numbers are right, the speed is not, and odd widths are kept in whole bytes")
    if scheme.quantized and scheme.weight.bits < target.weight.bits:
        return f"weights of {scheme.weight.bits} bits are kept, and multiplied, as whole bytes"
    return ""


def scheme_table() -> str:
    """Every scheme on every target, as Markdown; a cell that is empty does not exist."""
    rows = []
    for scheme in SCHEMES.values():
        cells = [_cell(target, scheme) for target in TARGETS.values()]
        rows.append([f"`{scheme.name}`", _formats(scheme), *cells])
    headers = ["scheme", "formats", *(f"`{name}`" for name in TARGETS)]
    return str(tabulate(rows, headers=headers, tablefmt="github"))


def _formats(scheme: Scheme) -> str:
    if scheme.mode in (Mode.FLOAT, Mode.HALF):
        return scheme.half or "float32"
    if scheme.mode is Mode.WEIGHT_ONLY:
        return f"weights {scheme.weight}"
    when = "at run time" if scheme.mode is Mode.DYNAMIC else (
        "learned" if scheme.trained else "calibrated")
    return f"weights {scheme.weight}, activations {scheme.activation}, {when}"


def _cell(target: Target, scheme: Scheme) -> str:
    reason = target.why_not_scheme(scheme)
    if reason:
        return f"no: {reason}"
    if scheme.mode is Mode.FLOAT:
        return "yes"
    if scheme.mode is Mode.HALF and target.device == "cuda":
        return "real on a GPU; checked in float16 on the CPU without one"
    if scheme.mode is Mode.HALF:
        return "yes where the CPU has it, else emulated"
    if scheme.mode is Mode.DYNAMIC:
        return "linear layers" + (", simulated" if target.simulates else "")
    if scheme.mode is Mode.WEIGHT_ONLY:
        return "size only"
    return "simulated" if target.simulates else "real kernels"
