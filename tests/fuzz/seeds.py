"""The files that hostile ones are made of: every kind of row, on every target.

    python -m tests.fuzz.seeds FOLDER
"""

import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import fxq
from tests.nets import Classifier, SqueezeExcite, lively, ramp

INPUTS = ramp(2, 3, 16, 16)


class Many(nn.Module):
    """Calls that fxq leaves in float, views, sizes that are computed, and several outputs."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, groups=1), nn.LayerNorm(16)
        self.up, self.head = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Linear(8, 5)
        self.act = nn.PReLU()

    def forward(self, x):
        a = self.act(self.norm(self.conv(x)))
        b = F.interpolate(F.pad(self.up(a), (1, 1, 0, 0)), scale_factor=0.5)
        n, c = a.size(0), a.shape[1]
        first, second = torch.split(a, 4, dim=1)
        mixed = torch.einsum("nchw,nchw->nhw", first, second).cumsum(1)
        best = a.flatten(2).topk(3, dim=-1)[0].softmax(-1).sum(-1)
        rest = torch.where(mixed > 0, mixed, mixed.exp()).view(n, c * 16 * 16 // 8).std(dim=1, keepdim=True)
        return {"y": self.head(best + rest), "aux": [b.permute(0, 2, 3, 1)[:, 1:, ::2], mixed]}


NETS = {"classifier": (Classifier, {}), "excite": (SqueezeExcite, {}), "many": (Many, {}),
        "qnnpack": (Classifier, {"target": "qnnpack"}), "x86": (Many, {"target": "x86"}),
        "phone": (Many, {"target": "qnnpack"}), "reference": (Many, {"target": "reference"}),
        "native": (Many, {"target": "native"}),
        "native_classifier": (Classifier, {"target": "native"}),
        "float": (Many, {"scheme": "fp32"}), "dynamic": (Many, {"scheme": "int8_dynamic"})}


def write(folder: Path, names: Iterable[str] = tuple(NETS)) -> None:
    """One file per net."""
    for name, (net, options) in ((name, NETS[name]) for name in names):
        torch.manual_seed(0)
        data = {} if options.get("scheme") in ("fp32", "int8_dynamic") else {
            "calibration_data": [INPUTS]}
        fxq.compile(lively(net()), example_inputs=(INPUTS,), runtime="python",
                    **data, **options).save(folder / f"{name}.fxq")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    write(Path(sys.argv[1]))

__all__ = ["INPUTS", "NETS", "write"]
