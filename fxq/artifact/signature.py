"""The call of the model as JSON: its parameters, the nests of inputs and outputs, fixed values."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fxq.artifact.dtypes import DTYPES
from fxq.artifact.values import MALFORMED, decode, encode
from fxq.errors import ArtifactError, inert
from fxq.frontend.convention import PLACE, Convention
from fxq.frontend.nests import Nest
from fxq.frontend.signature import Signature

LONGEST = 256  # characters of a name
_KINDS = ("leaf", "list", "tuple", "dict", "fields", "named")
Json = dict[str, Any]


def to_json(convention: Convention) -> Json:
    """What `from_json` needs; raises ArtifactError for defaults that no file can hold."""
    signature = convention.signature
    return {
        "parameters": [_parameter(p) for p in signature.parameters.parameters.values()],
        "names": list(signature.names), "input": _nest(signature.rebuild),
        "leaves": [_leaf(leaf) for leaf in signature.leaves],
        "output": _nest(convention.rebuild_output),
        "outputs": [{"place": True} if v is PLACE else {"fixed": _plain(v)}
                    for v in convention.fixed_outputs]}


def _plain(value: Any) -> Any:
    return encode(value, lambda node: -1)


def _leaf(value: Any) -> Json:
    if isinstance(value, Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch.")}
    return {"fixed": _plain(value)}


def _parameter(parameter: inspect.Parameter) -> Json:
    row: Json = {"name": parameter.name, "kind": parameter.kind.name}
    if parameter.default is not inspect.Parameter.empty:
        row["default"] = _plain(parameter.default)
    return row


def _nest(nest: Nest) -> Json:
    if nest.kind == "leaf":
        return {"kind": "leaf"}
    return {"kind": nest.kind, "keys": [_plain(k) for k in nest.keys], "name": nest.name,
            "parts": [_nest(part) for part in nest.parts]}


def from_json(row: Json, inputs: Sequence[Any], outputs: int) -> Convention:
    """The call behind the JSON, for inputs of these dtypes and so many outputs.

    Raises ArtifactError for what does not fit.
    """
    try:
        parameters = inspect.Signature([_read_parameter(p) for p in row["parameters"]])
        leaves = tuple(_read_leaf(leaf) for leaf in row["leaves"])
        names = tuple(inert(n)[:LONGEST] for n in row["names"])
        signature = Signature(parameters, names, leaves, _read_nest(row["input"]))
        fixed = tuple(PLACE if "place" in v else decode(v["fixed"], ()) for v in row["outputs"])
        convention = Convention(signature, _read_nest(row["output"]), fixed)
    except MALFORMED as error:
        raise ArtifactError("the model's signature is malformed", why=str(error)) from error
    _check_counts(convention, list(inputs), outputs)
    return convention


def _check_counts(convention: Convention, inputs: list[Any], outputs: int) -> None:
    """As many tensors go in and out as the graph takes and gives."""
    signature = convention.signature
    tensors = [leaf.dtype for leaf in signature.leaves if isinstance(leaf, Tensor)]
    given = sum(v is PLACE for v in convention.fixed_outputs)
    if inputs != tensors or len(inputs) != len(signature.names) or outputs != given or (
            _leaves(signature.rebuild) != len(signature.leaves)) or (
            _leaves(convention.rebuild_output) != len(convention.fixed_outputs)):
        raise ArtifactError("the model's signature does not fit its graph")


def _leaves(nest: Nest) -> int:
    return 1 if nest.kind == "leaf" else sum(map(_leaves, nest.parts))


def _read_parameter(row: Json) -> inspect.Parameter:
    default = decode(row["default"], ()) if "default" in row else inspect.Parameter.empty
    kinds = {kind.name: kind for kind in inspect._ParameterKind}
    return inspect.Parameter(row["name"], kinds[row["kind"]], default=default)


def _read_leaf(row: Json) -> Any:
    if "tensor" in row:
        return torch.empty(0, dtype=DTYPES[row["tensor"]])
    return decode(row["fixed"], ())


def _read_nest(row: Json, depth: int = 0) -> Nest:
    kind = row["kind"]
    if kind not in _KINDS or depth > 32:
        raise ValueError("a nest is not understood")
    if kind == "leaf":
        return Nest()
    parts = tuple(_read_nest(part, depth + 1) for part in row["parts"])
    keys = tuple(decode(k, ()) for k in row["keys"])
    hash(keys)  # TypeError for what no dict can have
    if kind in ("dict", "fields", "named") and len(keys) != len(parts):
        raise ValueError("a nest has more names than parts")
    if kind in ("fields", "named"):
        namedtuple(row["name"], keys)  # ValueError for names that are none
    return Nest("named" if kind == "fields" else kind, keys, parts, row["name"])
