"""A file for each finished block, so that long work goes on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.fx import Node

from fxq.analysis.overrides import scheme_of
from fxq.errors import ArtifactError
from fxq.ir.digests import digest_graph, digest_tensors
from fxq.ir.facts import info
from fxq.quantization.formats import QParams
from fxq.quantization.statistics_file import metadata_of, to_bytes
from fxq.quantization.weights import IntegerWeight
from fxq.reconstruction.blocks import Block
from fxq.reconstruction.simulation import Simulation, Values
from fxq.reconstruction.work import Learning
from fxq.system.files import read_file, write_file

FORMAT = "fxq-block-1"


class Checkpoints:
    """What each block decided, in files of a folder; without a folder it keeps nothing."""

    def __init__(self, folder: Path | str | None, simulation: Simulation, batches: Sequence[Values],
                 learning: Learning) -> None:
        self.folder = None if folder is None else Path(folder)
        self.simulation = simulation
        self.digest = "" if folder is None else _digest(simulation, batches, learning)

    def write(self, block: Block, index: int) -> None:
        """Keep what is decided for the nodes of a block."""
        if self.folder is None:
            return
        decided, keys = self.simulation.decided, [info(n).value for n in block.nodes]
        tensors = {f"bias.{k}": decided.biases[k] for k in keys if k in decided.biases}
        for key in (k for k in keys if k in decided.weights):
            for name, tensor in vars(decided.weights[key]).items():
                if tensor is not None:
                    tensors[f"{name}.{key}"] = tensor
        formats = {k: asdict(f) for k, f in decided.formats.items()}
        about = json.dumps({"digest": self.digest, "formats": formats}, sort_keys=True)
        content = save({k: t.contiguous() for k, t in tensors.items()}, {FORMAT: about})
        write_file(self._path(index), content)

    def restore(self, block: Block, index: int) -> bool:
        """Take over what was kept; False when there is nothing.

        Raises ArtifactError for a damaged file, or one of other work.
        """
        if self.folder is None or not self._path(index).exists():
            return False
        path = self._path(index)
        content = read_file(path)
        try:
            tensors, about = load(content), json.loads(metadata_of(content)[FORMAT])
            if about["digest"] != self.digest:
                raise ArtifactError(f"{path} is a checkpoint of other work",
                                    why="the model, the statistics, the batches or the settings "
                                        "are not those that it was written for",
                                    fix="delete the folder, or name another one")
            self._take(block, tensors, about["formats"])
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged, or no checkpoint of fxq",
                                why=str(error).split("\n")[0], fix="delete it") from error
        return True

    def _path(self, index: int) -> Path:
        assert self.folder is not None
        return self.folder / f"block{index:04}.safetensors"

    def _take(self, block: Block, tensors: dict[str, Tensor], formats: dict[str, Any]) -> None:
        self._take_formats({k: QParams(**f) for k, f in formats.items()})
        for node in block.nodes:
            key = info(node).value
            if f"values.{key}" in tensors:
                weight = IntegerWeight(tensors[f"values.{key}"], tensors[f"scales.{key}"],
                                       tensors.get(f"zeros.{key}"))
                self._check_weight(node, weight)
                self.simulation.set_weight(node, weight)
            if f"bias.{key}" in tensors:
                _check_like(tensors[f"bias.{key}"], self.simulation.bias(node), "a bias")
                self.simulation.set_bias(node, tensors[f"bias.{key}"])

    def _check_weight(self, node: Node, weight: IntegerWeight) -> None:
        """Of the form that the layer's weights have now, and in the bounds of its format."""
        now, spec = self.simulation.weights[node], scheme_of(
            node, self.simulation.context.scheme).weight
        for name, tensor in vars(now).items():
            _check_like(getattr(weight, name), tensor, name)
        low, high = weight.values.aminmax() if weight.values.numel() else (spec.low, spec.high)
        if low < spec.low or high > spec.high or not (weight.scales > 0).all():
            raise ValueError(f"weights that are not {spec}")

    def _take_formats(self, formats: dict[str, QParams]) -> None:
        simulation = self.simulation
        for node, now in simulation.values.items():
            found = formats.get(info(node).value, now)
            if (found.low, found.high) != (now.low, now.high) or not (
                    type(found.zero_point) is int and found.low <= found.zero_point <= found.high
                    and type(found.scale) is float and 0 < found.scale < math.inf):
                raise ValueError(f"the format {found} is none for {info(node).value!r}")
        simulation.decided = replace(simulation.decided, formats=formats)
        simulation.values |= {n: formats[info(n).value] for n in simulation.values
                              if info(n).value in formats}


def _check_like(found: Tensor | None, known: Tensor | None, what: str) -> None:
    """Of the same type and shape, and finite."""
    form = [None if t is None else (t.dtype, t.shape) for t in (found, known)]
    if form[0] != form[1] or (found is not None and not found.isfinite().all()):
        raise ValueError(f"{what} of another form")


def _digest(simulation: Simulation, batches: Sequence[Values], learning: Learning) -> str:
    """Everything that decides the result."""
    digest = hashlib.sha256(digest_graph(simulation.module).encode())
    digest.update(to_bytes(simulation.context.statistics.values,
                           simulation.context.statistics.repairs))
    scheme = simulation.context.scheme
    digest.update(repr((scheme, simulation.context.target.name, learning.iterations,
                        learning.seed, torch.__version__)).encode())
    for batch in batches:
        digest.update(digest_tensors([v for v in batch.values() if isinstance(v, Tensor)]).encode())
    return digest.hexdigest()
