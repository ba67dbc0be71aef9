"""Broken `.fxq` files: damaged ones, and ones that were sealed again after a change."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random

import torch

import fxq
from fxq.artifact.container import pack, unpack

STRANGE = (None, True, -1, 0, 2**40, 2**70, 1.5, -1e308, "", "x" * 5000, "../../etc", "__class__",
           [], [[]], {}, {"n": 0}, {"n": -1}, {"tuple": [1]}, {"dtype": "float32"}, "torch.load")


def damaged(content: bytes, source: random.Random) -> bytes:
    """A flipped bit, a cut, a repeated part, or swapped parts."""
    broken, place = bytearray(content), source.randrange(len(content))
    kind = source.randrange(4)
    if kind == 0:
        broken[place] ^= 1 << source.randrange(8)
    elif kind == 1:
        del broken[place:]
    elif kind == 2:
        broken[place:place] = broken[place: place + 64]
    else:
        broken[:place], broken[place:] = broken[place:], broken[:place]
    return bytes(broken)


def resealed(content: bytes, source: random.Random) -> bytes:
    """One value anywhere in the JSON replaced, removed or repeated; all digests made right."""
    members = unpack(content, "x")
    name = source.choice(("graph.json", "graph.json", "graph.json", "manifest.json"))
    value = json.loads(members[name])
    mutate(value, source)
    members[name] = json.dumps(value).encode()
    if name == "graph.json":
        manifest = json.loads(members["manifest.json"])
        for part in members.keys() - {"manifest.json"}:
            manifest["members"][part] = {"bytes": len(members[part]),
                                         "sha256": hashlib.sha256(members[part]).hexdigest()}
        members["manifest.json"] = json.dumps(manifest).encode()
    return pack(members)


def mutate(value, source: random.Random) -> None:
    """Walk to a random place and change what is there."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = source.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and source.random() < 0.9:
            value = inner
            continue
        kind = source.randrange(4)
        if kind == 0:
            del value[key]
        elif kind == 1 and isinstance(inner, int | float) and not isinstance(inner, bool):
            value[key] = source.choice((inner + 1, -inner, inner * 1000, inner - 1))
        elif kind == 2 and isinstance(value, list):
            value.insert(source.randrange(len(value) + 1), copy.deepcopy(inner))
        else:
            value[key] = source.choice(STRANGE)
        return


def check_bad_file(path, content: bytes) -> str:
    """"refused" by a clear error, or "loaded"; what was loaded is run, and must not crash."""
    path.write_bytes(content)
    try:
        model = fxq.load(path, runtime="python")
    except (fxq.ArtifactError, fxq.ConfigError, fxq.TargetUnavailableError):
        return "refused"
    with contextlib.suppress(Exception):  # a graph may say nonsense, as long as Python says so
        model(torch.linspace(-1, 1, 1536).reshape(2, 3, 16, 16))
    return "loaded"
