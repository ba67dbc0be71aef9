"""A model with control flow: what cannot be traced runs as it is, in float; the rest in int8.

    python examples/custom_model.py
"""

import torch
from torch import nn

import fxq


class Brightness(nn.Module):
    """Decides at every call, by the values that it sees."""

    def forward(self, x):
        return x * 0.5 if x.mean() > 0 else x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.adapt = nn.Conv2d(3, 16, 3, stride=2), Brightness()
        self.body, self.head = nn.Conv2d(16, 32, 3), nn.Linear(32, 10)

    def forward(self, x):
        x = torch.relu(self.body(self.adapt(torch.relu(self.stem(x)))))
        return {"logits": self.head(x.mean((2, 3))), "features": x}


if __name__ == "__main__":
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(4, 3, 32, 32)
    compiled = fxq.compile(net, example_inputs=(x,), calibration_data=[x])
    print(compiled.report)
    with torch.no_grad():
        expected, found = net(x), compiled(x)
    assert found.keys() == expected.keys()
    assert [r.code for r in compiled.report.left_in_float].count("untraceable") == 1
    print(f"SQNR of the logits {fxq.sqnr(expected['logits'], found['logits']):.1f} dB")
