"""What is wrong with a row of a target's table: found when the target is made, not when it runs."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from fxq.ir.ops import ABSORBED, OPS, Kind, Op
from fxq.kernels.arguments import ARGUMENTS
from fxq.kernels.calls import CALLS, Call, get_call
from fxq.kernels.integer_forms import FLOAT_FORMS, INTEGER_FORMS
from fxq.kernels.limits import Limit
from fxq.kernels.rows import ELEMENTWISE_OPS, Kernel, Pairing

_WEIGHTED = ("weighted", "adding", "float", "dynamic", "layer", "layer_add", "layer_float",
             "layer_dynamic")
# For operators that keep their input's format.
_SAME = ("same", "cat", "select", "join", "average", "average_float")
_FORMS = {"call": (*ARGUMENTS, *INTEGER_FORMS, "same", "select", "function"),
          "float_call": ("float", *FLOAT_FORMS), "dynamic_call": ("dynamic", "layer_dynamic")}


def problems_of(row: Kernel) -> Iterator[str]:
    """Each fault in a few words, with the row's operator."""
    if row.absorbs not in ("", *ABSORBED) and f"{row.op}_{row.absorbs}" not in OPS:
        yield f"row {row.op}: nothing absorbs {_shown(row.absorbs)}"
        return
    name = f"{row.op}_{row.absorbs}" if row.absorbs else row.op
    if row.op != ELEMENTWISE_OPS and name not in OPS:
        yield f"unknown operator {name!r}"
        return
    found = [*_calls(row, OPS.get(name)), *_limits(row, OPS.get(name))]
    yield from (f"row {row}: {problem}" for problem in found)


def takes_dynamic(row: Kernel) -> bool:
    """The row is one that a dynamic scheme runs: a layer on vectors, by one of torch's kernels.

    A kernel of one's own may have no dynamic form; its layers then stay in float.
    """
    return isinstance(row.call, str) and row.op in OPS and (
        OPS[row.op].kind is Kind.MAC and not OPS[row.op].rank)


def _calls(row: Kernel, op: Op | None) -> Iterator[str]:
    for slot, forms in _FORMS.items():
        named = getattr(row, slot)
        if slot != "call" and named == "":
            continue
        if not isinstance(named, Call) and named not in CALLS:
            close = get_close_matches(str(named), CALLS, 1)
            yield f"unknown {slot} {named!r}" + (f", did you mean {close[0]!r}?" if close else "")
            continue
        call = get_call(named)
        if call.form not in forms:
            yield f"{slot} {call.name!r} has the form {call.form!r}, not {' or '.join(forms)}"
        elif reason := _why_not_form(call, op):
            yield f"{slot} {call.name!r} {reason}"


def _why_not_form(call: Call, op: Op | None) -> str:
    """Why a call cannot compute an operator of this kind; None is each elementwise one."""
    if op is None:
        return "" if call.form == "function" else "is not for every elementwise operator"
    if (op.kind is Kind.MAC) != (call.form in _WEIGHTED):
        return "takes no weights" if op.kind is Kind.MAC else "takes weights"
    if op.kind is Kind.MAC and call.rank != op.rank + 2:
        return f"takes weights of {call.rank} dimensions, not {op.rank + 2}"
    if (op.kind is Kind.SAME) != (call.form in _SAME):
        return "gives a scale of its own" if op.kind is Kind.SAME else "keeps its input's scale"
    return ""


def _limits(row: Kernel, op: Op | None) -> Iterator[str]:
    for field, kind in (("limits", Limit), ("pairings", Pairing)):
        entries = getattr(row, field)
        if not isinstance(entries, tuple):
            yield f"{field} is no tuple but {type(entries).__name__}"
            continue
        yield from (f"{field} hold {_shown(e)}, which is no {kind.__name__}"
                    for e in entries if not isinstance(e, kind))
    for limit in row.limits if isinstance(row.limits, tuple) else ():
        if not isinstance(limit, Limit):
            continue
        if not limit.reason or not callable(limit.holds):
            yield f"limit {limit.reason!r} lacks a reason or a condition"
        if limit.attribute and (op is None or limit.attribute not in op.attributes):
            yield f"a limit on {limit.attribute!r}, which the operator does not have"


def _shown(entry: object) -> str:
    return repr(entry) if isinstance(entry, str | int | float | None) else (
        f"a {type(entry).__name__}")


__all__ = ["problems_of", "takes_dynamic"]
