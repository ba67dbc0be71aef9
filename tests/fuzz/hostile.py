"""A grammar of hostile files: every field of every row changed by type, range, name or reference.

The rows, their calls and the kinds of their arguments come from fxq's own tables, so that what is
written is nearly right; recorded shapes are made right again, as an attacker would.
"""

from __future__ import annotations

import hashlib
import json
import random

import torch
from safetensors.torch import load, save

from fxq.artifact.allow_list import CALLS, METHODS
from fxq.artifact.compact import compact, expand
from fxq.artifact.container import pack, unpack
from fxq.artifact.limits import Limited
from fxq.artifact.read_graph import from_portable
from fxq.artifact.validate import _input, _result
from fxq.artifact.write_graph import Portable
from fxq.ir.facts import info

TEXT = "\x1b[2J\u202e</td><script>\"'),open({where!r},'w'),("  # for terminals, pages and source
NAME = "**({{}} if open({where!r},'w') else {{}}))#"
NUMBERS = (-2**63, -2**31, -1000, -7, -1, 0, 1, 2, 3, 5, 8, 16, 255, 256, 1000, 2**16, 2**20, 2**27,
           2**31, 2**40, 2**63, 10**30, 0.0, -0.5, 1e-45, 1e-38, 0.5, 2.0, 1e30, 1e300)
ODD = (None, True, False, "", "x", [], {}, {"float": "nan"}, {"float": "inf"}, {"ellipsis": True},
       {"dtype": "int8"}, {"slice": [0, None, 0]}, {"tuple": []}, {"n": -1}, {"n": 10**6}, [[1]],
       "ij,kl->", "%99999999d", "reflect", "bicubic")
NAMES = ("dtype", "out", "inplace", "training", "zero_point", "axis", "groups", "stride", "dim",
         "memory_format", "_stacklevel", "self", "class", "size", "equation", "alpha")
DTYPES = (torch.float64, torch.float16, torch.int64, torch.int32, torch.int8, torch.uint8,
          torch.bool, torch.complex64)


def hostile(content: bytes, source: random.Random, where: str) -> bytes:
    """One file with one to three changes, digests made right; `where` is what it tries to write."""
    members = unpack(content, "x")
    graph, manifest = json.loads(members["graph.json"]), json.loads(members["manifest.json"])
    rows, tensors = expand(graph), load(members["weights.safetensors"])
    in_program = "program.json" in members and source.random() < 0.7
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        if in_program:
            _change_program(members, source, where)
        else:
            _change(source, where, rows, tensors, graph, manifest)
    if source.random() < 0.7 and not in_program:
        _repair(rows, graph["texts"], tensors)
    graph |= compact(rows)
    members |= {"graph.json": _json(graph), "manifest.json": _json(manifest),
                "weights.safetensors": save(tensors, {"fxq": "1"})}
    if source.random() < 0.8:
        claim(members)
    return sealed(members)


def _json(value):
    return json.dumps(value).encode()


def sealed(members) -> bytes:
    """The file with all digests right, whatever is in it."""
    manifest = json.loads(members["manifest.json"])
    if isinstance(manifest.get("members"), dict):
        for name in members.keys() - {"manifest.json"}:
            manifest["members"][name] = {"bytes": len(members[name]),
                                         "sha256": hashlib.sha256(members[name]).hexdigest()}
    return pack({**members, "manifest.json": _json(manifest)})


def claim(members) -> None:
    """Let the program say that it was made from this graph and these weights."""
    if "program.json" in members:
        program = json.loads(members["program.json"])
        program["of"] = {name: hashlib.sha256(members[name]).hexdigest()
                         for name in ("graph.json", "weights.safetensors")}
        members["program.json"] = _json(program)


def _change_program(members, source, where):
    """A number of a row, or any place of its JSON, or one of its tensors."""
    if source.random() < 0.2:
        numbers = load(bytes(members["program.safetensors"]))
        _change_tensor(numbers, source)
        members["program.safetensors"] = save(numbers, {"fxq": "1"})
        return
    program = json.loads(members["program.json"])
    if source.random() < 0.3:
        _change_json(program, source, where)
    else:
        rows = program.get(source.choice(("code", "code", "views", "views", "layers", "inputs")))
        row = source.choice(rows) if rows and isinstance(rows, list) else None
        if not row or not isinstance(row, list):
            return  # an earlier change
        place = source.randrange(len(row))
        near = row[place] + source.choice((-1, 1, 7, 64)) if type(row[place]) is int else 1.5
        row[place] = source.choice((near, source.choice(row), source.choice(NUMBERS),
                                    source.choice(ODD)))
    members["program.json"] = _json(program)


def _change(source, where, rows, tensors, graph, manifest):
    kind = source.choice(("row",) * 12 + ("new",) * 4 + ("tensor",) * 4 + ("rows", "call", "manifest",
                                                                        "text"))
    if kind == "row":
        _change_row(source.choice(rows), rows, source, where)
    elif kind == "new":
        _insert(rows, source)
    elif kind == "tensor" and tensors:
        _change_tensor(tensors, source)
    elif kind == "rows":
        position = source.randrange(len(rows))
        rows.insert(source.randrange(len(rows)), rows[position]) if source.random() < 0.5 else (
            rows.pop(position))
    elif kind == "text" and graph["texts"]:
        graph["texts"][source.randrange(len(graph["texts"]))] = TEXT.format(where=where)
    else:
        _change_json(manifest if kind == "manifest" else graph["call"], source, where)


def _change_row(row, rows, source, where):
    """One field: an argument, a name, what is called, or what the row says of its result."""
    field = source.choice(("args", "args", "kwargs", "kwargs", "names", "call", "shape", "dtype",
                           "format", "tensor", "op", "path", "integers"))
    kwargs = row.get("kwargs", {})
    if field == "args" and row.get("args"):
        _change_json(row["args"], source, where, len(rows))
    elif field == "kwargs" and kwargs:
        row["kwargs"] = kwargs = dict(kwargs)
        key = source.choice(list(kwargs))
        kwargs[key] = _value(kwargs[key], source, len(rows))
    elif field == "names":
        name = source.choice((NAME.format(where=where), *NAMES, *NAMES))
        row["kwargs"] = {**kwargs, name: _value(1, source, len(rows))}
    elif field == "call":
        row["call"] = source.choice((*CALLS, *METHODS, "os.system", "torch.load", "__class__"))
    elif field == "shape" and row.get("shape"):
        row["shape"] = list(row["shape"])
        row["shape"][source.randrange(len(row["shape"]))] = source.choice(NUMBERS)
    elif field in row or field in ("path", "integers"):
        row[field] = source.choice((*ODD, *NUMBERS, "float16", "uint8", "call_method"))


def _value(old, source, count):
    """Another value: another number, another kind, another node, or a list of such."""
    kind = source.randrange(6)
    if kind < 3:
        return source.choice(NUMBERS)
    if kind == 3:
        return source.choice(ODD)
    if kind == 4:
        return {"n": source.randrange(count)}
    return {"tuple": [source.choice(NUMBERS) for _ in range(source.choice((1, 2, 3, 4, 100)))]}


def _insert(rows, source):
    """A new call of the allow-list on earlier values, whose result takes the place of one."""
    position = source.randrange(1, len(rows))
    method = source.random() < 0.3
    args = [{"n": source.randrange(position)}] + [
        _value(1, source, position) for _ in range(source.choice((0, 0, 1, 1, 2, 3)))]
    row = {"op": "call_method" if method else "call_function", "args": args, "shape": [1],
           "dtype": "float32", "call": source.choice(sorted(METHODS if method else CALLS))}
    if source.random() < 0.3:
        row["kwargs"] = {source.choice(NAMES): _value(1, source, position)}
    for later in rows[position:]:
        if "args" in later:
            later["args"] = _moved(later["args"], position)
    rows.insert(position, row)
    reader = source.choice(rows[position + 1:])
    if reader.get("args") and isinstance(reader["args"][0], dict):
        reader["args"][0] = {"n": position}


def _moved(value, position):
    if isinstance(value, list):
        return [_moved(v, position) for v in value]
    if isinstance(value, dict):
        return {k: v + 1 if k == "n" and type(v) is int and v >= position else _moved(v, position)
                for k, v in value.items()}
    return value


def _change_tensor(tensors, source):
    """Other values, another number of them, another type or rank, or none at all."""
    name = source.choice(sorted(tensors))
    old, kind = tensors[name], source.randrange(6)
    if kind == 0 and old.numel() and old.dtype.is_floating_point:
        flat = old.clone().flatten()
        flat[source.randrange(flat.numel())] = source.choice(
            (float("nan"), float("inf"), -1.0, 0.0, 1e-45, 1e38, -float("inf")))
        tensors[name] = flat.reshape(old.shape)
    elif kind == 1 and old.dim():
        tensors[name] = old[: source.randrange(old.shape[0] + 1)].clone()
    elif kind == 2 and old.dim():
        tensors[name] = torch.cat([old, old]).clone()
    elif kind == 3:
        tensors[name] = old.to(source.choice(DTYPES))
    elif kind == 4:
        tensors[name] = old.flatten().clone() if source.random() < 0.5 else old[None].clone()
    else:
        tensors[name] = tensors[source.choice(sorted(tensors))].clone()


def _change_json(value, source, where, count=40):
    """Any place of a nest: removed, repeated, or replaced."""
    while value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = source.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and source.random() < 0.8:
            value = value[key]
            continue
        kind = source.randrange(5)
        if kind == 0:
            del value[key]
        elif kind == 1:
            value[key] = TEXT.format(where=where)
        else:
            value[key] = _value(value[key], source, count)
        return


def _repair(rows, texts, tensors):
    """Make recorded shapes what the calls make, as far as they can be called at all."""
    values = {}
    try:
        for name, tensor in tensors.items():
            for row in rows:
                if row.get("tensor") == name:
                    row["shape"] = list(tensor.shape)
                    row["dtype"] = str(tensor.dtype).removeprefix("torch.")
        plain = [{k: v for k, v in row.items() if k != "format"} for row in rows]
        module = from_portable(Portable(tuple(plain), tuple(texts), tensors))
        limited = Limited([])
        for node, row in zip(module.graph.nodes, rows, strict=True):
            if node.op == "placeholder":
                values[node] = _input(node)
            elif node.op == "get_attr":
                values[node] = module.get_buffer(str(node.target)).to("meta")
            elif node.op != "output":
                values[node] = made = _result(node, values, limited)
                known = info(node)
                if isinstance(made, torch.Tensor):
                    row["shape"] = list(made.shape)
                    row["dtype"] = str(made.dtype).removeprefix("torch.")
                elif known.shape is not None:
                    del row["shape"], row["dtype"]
    except Exception:  # what cannot be called stays as it was changed
        return


__all__ = ["claim", "hostile", "sealed"]
