"""The native engine's program for inputs like the example's: a file may hold it beside its graph.

`program.json` has the rows of an Assembly, `program.safetensors` the numbers that lowering made of
the graph's. Weights stay where they are, in `weights.safetensors`. A program says which graph and
weights it was made from, and by which planner: for others, it counts as not there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from ctypes import c_float, c_int32
from typing import Any

import torch
from torch import Tensor

from fxq.artifact.bounds import LARGEST_INPUT, LARGEST_SUM, most_bytes
from fxq.artifact.container import PROGRAM
from fxq.artifact.members import File, json_object
from fxq.artifact.tensors import Tensors
from fxq.errors import ArtifactError
from fxq.kernels.native.assembly import Assembly, Outside, Weighted, outside
from fxq.kernels.native.structs import Instruction, View
from fxq.version import __version__

# The number grows whenever a graph gives another program than before, or a row means another step.
PLANNER = f"{__version__}-1"
GRAPH = ("graph.json", "weights.safetensors")
_JSON, _NUMBERS = PROGRAM
_ENTRIES = {"planner", "of", "code", "views", "layers", "inputs", "outputs", "order", "lane",
            "wide", "images"}
MOST_ROWS = 20_000
_TABLE = 256  # results


def to_members(program: Assembly, tensors: Mapping[str, Tensor],
               graph: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members for a program of the graph and weights in `graph`; none where it cannot be kept.

    `tensors` are those of `weights.safetensors`.
    """
    from safetensors.torch import save  # not needed to read

    names = _names(program.layers, tensors)
    if names is None or any(row.addend is not None for row in program.layers):
        return {}
    rows = {"planner": PLANNER, "of": {k: hashlib.sha256(v).hexdigest() for k, v in graph.items()},
            "code": program.code, "views": program.views, "order": program.order,
            "layers": [(name, row.groups, row.zero_in, row.transposed)
                       for name, row in zip(names, program.layers, strict=True)],
            "inputs": [(o.shape, o.element) for o in program.inputs],
            "outputs": [(o.shape, o.element) for o in program.outputs],
            "lane": program.lane, "wide": program.wide, "images": program.images}
    numbers = {"biases": _joined([r.bias for r in program.layers], torch.int32),
               "multipliers": _joined([r.multiplier for r in program.layers], torch.float32),
               "tables": _joined(program.tables, torch.uint8)}
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {_JSON: text.encode(), _NUMBERS: save(numbers, {"fxq": "1"})}


def _names(layers: Sequence[Weighted], tensors: Mapping[str, Tensor]) -> list[str] | None:
    """The tensor that holds each layer's weights; None where one holds them in another form."""
    known: dict[Any, str] = {}
    for name in sorted(tensors, reverse=True):  # the first of equals
        known[_identity(tensors[name])] = name
    found = [known.get(_identity(row.weight)) for row in layers]
    return None if None in found else found  # type: ignore[return-value]


def _identity(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return tensor.dtype, tensor.shape, hashlib.sha256(content.tobytes()).digest()


def _joined(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([torch.empty(0, dtype=dtype), *(p.detach().cpu().flatten() for p in parts)])


def read_program(file: File) -> Assembly | None:
    """The program of a file for target `native`, if it has one of its graph for this fxq.

    Every number is of its type and range, and all memory is of possible size; what rows mean
    together is checked when they are linked. Raises ArtifactError.
    """
    own = file.manifest["target"] == file.manifest["engine"] == "native"
    if _JSON not in file.members or not own:
        return None
    file.check_digests(*PROGRAM, "graph.json")  # the digest of the whole file covers the weights
    rows = json_object(file.members[_JSON], _JSON)
    made_of = {name: file.manifest["members"].get(name, {}).get("sha256") for name in GRAPH}
    if rows.get("planner") != PLANNER or rows.get("of") != made_of:
        return None
    if set(rows) != _ENTRIES:
        raise ArtifactError(f"{_JSON} has other entries than it should")
    program = _assembly(rows, Tensors(file.members[GRAPH[1]], GRAPH[1]),
                        Tensors(memoryview(bytearray(file.members[_NUMBERS])), _NUMBERS))
    _check_memory(program)
    return program


def _assembly(rows: Mapping[str, Any], weights: Tensors, numbers: Tensors) -> Assembly:
    inputs, outputs = (_outsides(rows[name], name == "inputs") for name in ("inputs", "outputs"))
    lane, wide, images = _integers([rows[name] for name in ("lane", "wide", "images")])
    order = _integers(rows["order"])
    if not all(place < len(outputs) for place in order):
        raise ArtifactError("the program returns an output that it does not make")
    return Assembly(
        _table(rows["code"], Instruction), _table(rows["views"], View),
        tuple(_layers(rows["layers"], weights, numbers)), _tables(numbers("tables", torch.uint8)),
        lane, wide, images, inputs, outputs, order)


def _list(values: Any) -> list[Any]:
    if not isinstance(values, list) or len(values) > MOST_ROWS:
        raise ArtifactError("a part of the program is no list, or too long")
    return values


def _integers(values: Any) -> tuple[int, ...]:
    """None of them negative."""
    if not all(type(v) is int and 0 <= v < 2**48 for v in _list(values)):
        raise ArtifactError("a number of the program is not possible")
    return tuple(values)


def _table(values: Any, kind: Any) -> tuple[tuple[Any, ...], ...]:
    """Rows of a structure of native.h, each number one that its field can hold."""
    bounds = [(float, 0) if t is c_float else (int, 1 << (31 if t is c_int32 else 63))
              for _, t, *_ in kind._fields_]
    for row in _list(values):
        if not isinstance(row, list) or len(row) != len(bounds) or not all(
                type(v) is t and (-most <= v < most if most else c_float(v).value == v)
                for v, (t, most) in zip(row, bounds, strict=True)):
            raise ArtifactError(f"a row of the program is no {kind.__name__}",
                                why=f"it is {str(row)[:80]}")
    return tuple(map(tuple, values))


def _outsides(values: Any, given: bool) -> tuple[Outside, ...]:
    """Dense tensors of two to four dimensions."""
    found = []
    for row in _list(values):
        shape, element = row if isinstance(row, list) and len(row) == 2 else ((), 0)
        if not (isinstance(shape, list) and 2 <= len(shape) <= 4 and element in (1, 4)
                and type(element) is int and min(_integers(shape)) > 0
                and math.prod(shape) <= LARGEST_INPUT):
            raise ArtifactError("an input or output of the program is not possible",
                                why=f"it is {str(row)[:80]}")
        found.append(outside(shape, element, given))
    return tuple(found)


def _layers(values: Any, weights: Tensors, numbers: Tensors) -> Iterator[Weighted]:
    biases, multipliers = numbers("biases", torch.int32), numbers("multipliers", torch.float32)
    start = 0
    for row in _list(values):
        if not isinstance(row, list) or [type(v) for v in row] != [str, int, int, bool] or not (
                0 < row[1] < 2**31 and 0 <= row[2] <= 255):
            raise ArtifactError("a layer of the program is malformed", why=f"it is {str(row)[:80]}")
        name, groups, zero_in, transposed = row
        weight = weights(name, torch.int8)
        if not 2 <= weight.dim() <= 4 or not weight.numel():
            raise ArtifactError(f"the tensor {name[:40]!r} is no layer's")
        end = start + (weight.shape[1] * groups if transposed else weight.shape[0])
        yield Weighted(weight, biases[start:end], multipliers[start:end], groups, zero_in,
                       transposed)
        start = end
    if biases.shape != (start,) or multipliers.shape != (start,):
        raise ArtifactError("the program has other numbers of biases or multipliers than outputs")


def _tables(results: Tensor) -> tuple[Tensor, ...]:
    if results.dim() != 1 or len(results) % _TABLE or len(results) > MOST_ROWS * _TABLE:
        raise ArtifactError("a table of the program has not 256 results")
    return tuple(results.view(-1, _TABLE))


def _check_memory(program: Assembly) -> None:
    """No more than a graph may have, all values together."""
    inputs = [about.bytes for about in program.inputs]
    outputs = sum(about.bytes for about in program.outputs)
    if sum(math.prod(about.shape) for about in program.inputs) > LARGEST_INPUT or (
            program.lane + program.wide * program.images + outputs
            > LARGEST_SUM * most_bytes(max(inputs, default=0))):
        raise ArtifactError("the program takes more memory than any that fxq reads")


def foreign(where: str) -> ArtifactError:
    """The error of a file whose program is none of its graph's."""
    return ArtifactError(f"{where}: the program is not the one that the graph gives",
                         why="somebody has changed one of them",
                         fix="build it again; do not run it if you do not know who changed it")


__all__ = ["PLANNER", "foreign", "read_program", "to_members"]
