"""Run a graph on a GPU: call by call, as one CUDA graph, or through torch.compile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fxq.errors import ConfigError, TargetUnavailableError, did_you_mean
from fxq.runtime.python import Function, build

CUDA_RUNTIMES = ("auto", "python", "cuda_graph", "torch_compile")
_WARM_UP = 3  # calls before a capture, so that libraries have chosen their algorithms


def select_cuda(module: fx.GraphModule, inputs: list[Tensor], name: str) -> tuple[str, Function]:
    """(runtime, function). `auto` captures a CUDA graph; other shapes than the example's run
    call by call. Without a device, the function says what is missing when it is called.
    """
    if name not in CUDA_RUNTIMES:
        raise ConfigError(f"unknown runtime {name!r} for a GPU",
                          fix=did_you_mean(name, CUDA_RUNTIMES))
    chosen = "cuda_graph" if name == "auto" else name
    if not torch.cuda.is_available():
        return chosen, _missing
    function = build(to_device(module, "cuda"))
    if chosen == "torch_compile":
        function = torch.compile(function)
    on_device = OnDevice(function, torch.device("cuda"))
    return chosen, CudaGraph(on_device, inputs) if chosen == "cuda_graph" else on_device


def _missing(*inputs: Tensor) -> Any:
    raise TargetUnavailableError("this model runs on a CUDA device, and there is none",
                                 why="torch.cuda.is_available() is False",
                                 fix="run it on a machine with an NVIDIA GPU and its driver, or "
                                     "compile for another target")


def to_device(module: fx.GraphModule, device: str) -> fx.GraphModule:
    """Move all constants; images and filters into channels_last."""
    for name, tensor in list(module.named_buffers()):
        setattr(module, name, _laid_out(tensor, torch.device(device)))
    return module


def _laid_out(tensor: Tensor, device: torch.device) -> Tensor:
    layout = torch.channels_last if tensor.dim() == 4 else torch.preserve_format
    return tensor.to(device, memory_format=layout)


class OnDevice:
    """Takes inputs wherever they are, and returns outputs there."""

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self.function, self.device = function, device

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        home = inputs[0].device
        outputs = self.function(*(_laid_out(x, self.device) for x in inputs))
        return tuple(v.to(home) if isinstance(v, Tensor) else v for v in outputs)


class CudaGraph:
    """One launch for all kernels, for inputs of the example's shapes; one caller at a time."""

    def __init__(self, plain: OnDevice, example: Sequence[Tensor]) -> None:
        self.plain, self._lock = plain, threading.Lock()
        self.inputs = [_laid_out(x, plain.device).clone() for x in example]
        self.shapes = [x.shape for x in self.inputs]
        self.graph, self.outputs = self._capture()

    def _capture(self) -> tuple[Any, Any]:
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self.plain.function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            outputs = self.plain.function(*self.inputs)
        return graph, outputs

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if [x.shape for x in inputs] != self.shapes:
            return self.plain(*inputs)
        with self._lock:
            for place, value in zip(self.inputs, inputs, strict=True):
                place.copy_(value)
            self.graph.replay()
            return tuple(v.detach().clone().to(inputs[0].device) for v in self.outputs)
