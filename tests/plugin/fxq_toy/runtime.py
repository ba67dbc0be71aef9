"""A runtime: torch.fx's own interpreter, one node after the other."""

from torch import Tensor, fx

from fxq.runtime.python import Function
from fxq.runtime.select import Runtime


def build(module: fx.GraphModule, inputs: list[Tensor]) -> Function:
    return fx.Interpreter(module).run


INTERPRETED = Runtime("interpreted", build)
