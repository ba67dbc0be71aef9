"""CNN architectures of timm at random weights: does each compile, on integers, and rightly?

    python benchmarks/timm_zoo.py [--torch-ao] [--markdown docs/benchmarks/timm_zoo.md]

Batch norms get random statistics, as in the zoo of torchvision, or their initial ones where
random ones would make float32 differ from float64. `SQNR` compares outputs with the float model's
on the images that ranges were calibrated on; `40 dB noise` is what the float model itself makes of
noise of 40 dB on its input, in dB: no quantization can be expected to do better; `int8 MACs` is the
share of multiply-accumulates of convolutions and linear layers. `torch.ao` says how its FX workflow
ends on the same model.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from pathlib import Path

import timm
import torch
from common import environment, torch_ao
from tabulate import tabulate
from torch import nn

import fxq

NAMES = (
    "resnet10t", "resnet18", "resnet26d", "resnet26t", "resnet50", "resnetaa50", "resnetblur18",
    "resnetv2_50", "resnet32ts", "resnetrs50", "wide_resnet50_2", "seresnet18", "seresnet50",
    "legacy_seresnet18", "seresnext26d_32x4d", "ecaresnet26t", "ecaresnetlight", "skresnet18",
    "gcresnet33ts", "res2net50_26w_4s", "resnest14d", "resnext26ts", "resnext50_32x4d",
    "densenet121", "densenetblur121d", "dla34", "dla46_c", "dla60x", "dpn68", "vgg11_bn",
    "vgg13", "mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_small_100",
    "mobilenetv3_large_100", "mobilenetv4_conv_small", "mnasnet_small", "semnasnet_075",
    "spnasnet_100", "fbnetc_100", "fbnetv3_b", "efficientnet_b0", "efficientnet_lite0",
    "efficientnetv2_rw_t", "tf_efficientnetv2_b0", "tinynet_e", "mixnet_s", "lcnet_050",
    "ghostnet_100", "ghostnetv2_100", "repghostnet_050", "regnetx_002", "regnety_002",
    "regnetz_b16", "repvgg_a0", "mobileone_s0", "rexnet_100", "hardcorenas_a",
    "hrnet_w18_small", "cspresnet50", "cspdarknet53", "darknet53", "cs3darknet_s",
    "selecsls42b", "ese_vovnet19b_dw", "vovnet39a", "gernet_s", "hgnet_tiny", "hgnetv2_b0",
    "inception_v3", "inception_v4", "xception41", "convnext_atto", "convnextv2_atto",
    "edgenext_xx_small", "starnet_s1", "fasternet_t0", "repvit_m0_9", "poolformer_s12",
    "nf_regnet_b0", "mambaout_femto", "tresnet_m")


def build(name: str) -> nn.Module:
    """Random weights and lively batch norms, unless these make float32 itself chaotic."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
             and m.running_mean is not None]
    for norm in norms:
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    if is_chaotic(model):
        for norm in norms:
            norm.reset_running_stats()
    return model


def is_chaotic(model: nn.Module) -> bool:
    """Rounding to float32 moves an output by more than 1e-5 of the largest one."""
    images = images_for(model)[:1]
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(images.double())
        return bool((model(images) - exact).abs().max() > 1e-5 * exact.abs().max())


def images_for(model: nn.Module) -> torch.Tensor:
    size = model.default_cfg["input_size"][1]
    fixed = model.default_cfg.get("fixed_input_size")
    return torch.randn(4, 3, size if fixed else 160, size if fixed else 160)


def outcome(function) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function()
    except Exception as error:
        return type(error).__name__
    return "runs"


def measure(name: str, peer: bool) -> dict[str, object]:
    row: dict[str, object] = {"model": name}
    model = build(name)
    images, start = images_for(model), time.perf_counter()
    try:
        compiled = fxq.compile(model, example_inputs=(images[:1],), calibration_data=[images],
                               runtime="python")
        with torch.no_grad():
            exact = model(images)
            row["SQNR dB"] = fxq.sqnr(exact, compiled(images))
            noise = 0.01 * images.std() * torch.randn_like(images)
            row["40 dB noise"] = fxq.sqnr(exact, model(images + noise))
        row |= {"outcome": "runs", "int8 MACs %": 100 * compiled.report.coverage,
                "nodes in float": len(compiled.report.left_in_float),
                "times smaller": compiled.report.float_bytes / compiled.size_bytes}
    except fxq.FxqError as error:
        row["outcome"] = f"refused: {error.what[:70]}"
    except Exception as error:
        row["outcome"] = f"CRASH: {type(error).__name__}: {str(error)[:70]}"
    row["seconds"] = time.perf_counter() - start
    if peer:
        def other() -> None:
            torch_ao(model, [images])(images)

        row["torch.ao"] = outcome(other)
    return row


def summary(rows: list[dict[str, object]]) -> str:
    runs = [r for r in rows if r["outcome"] == "runs"]
    refused = [r for r in rows if str(r["outcome"]).startswith("refused")]
    low = [r["model"] for r in runs if not r["SQNR dB"] >= 10]
    covered = sum(r["int8 MACs %"] >= 95 for r in runs)
    text = (f"{len(rows)} architectures: {len(runs)} run, {len(refused)} refused, "
            f"{len(rows) - len(runs) - len(refused)} crash; SQNR below 10 dB: {len(low)} "
            f"{low or ''}; at least 95 % of the MACs in int8: {covered}.")
    if "torch.ao" in rows[0]:
        count = sum(r["torch.ao"] == "runs" for r in rows)
        text += f" torch.ao's FX workflow runs {count} of them."
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--torch-ao", action="store_true")
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.names or NAMES:
        rows.append(measure(name, options.torch_ao))
        print(tabulate([rows[-1]], tablefmt="plain", floatfmt=".1f"), flush=True)
    columns = ["model", "outcome", "SQNR dB", "40 dB noise", "int8 MACs %", "nodes in float",
               "times smaller", "seconds", *(["torch.ao"] if options.torch_ao else [])]
    table = tabulate([[row.get(c, "") for c in columns] for row in rows], columns,
                     floatfmt=".1f", tablefmt="github")
    print(f"{table}\n\n{summary(rows)}")
    if options.markdown:
        options.markdown.write_text(f"# The CNNs of timm\n\n{environment()}, timm "
                                    f"{timm.__version__}\n\n{__doc__}\n{summary(rows)}\n\n{table}\n")


if __name__ == "__main__":
    main()
