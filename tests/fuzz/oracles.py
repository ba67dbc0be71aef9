"""What must hold for every model and for every file."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import fxq
from fxq.cli.isa import compare_isas
from fxq.compiler.pipeline import QUANTIZE
from fxq.system.torch_state import using_engine
from tests.fuzz.nets import FuzzNet, Recipe

TARGETS = ("fbgemm", "x86", "qnnpack")
OLDER = 40  # of so many models one is run under the kernels of older CPUs too
FLOOR = 15.0  # dB of a target against the reference target: rounding ties, amplified by the net


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [v for part in (value.values() if isinstance(value, dict) else value) for v in flat(part)]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(flat(a), flat(b), strict=True))


def digest(model):
    content = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        content.update(name.encode() + tensor.numpy().tobytes())
    return content.hexdigest(), [m.training for m in model.modules()]


def images(recipe: Recipe, batch: int = 2):
    generator = torch.Generator().manual_seed(recipe.seed)
    return torch.randn(batch, recipe.channels, recipe.height, recipe.width, generator=generator)


def check_model(recipe: Recipe) -> str:
    """All relations for one model; returns "ok", or "refused" for a model that fxq names.

    In `compile`: traced equals eager (O1), each pass keeps its word (O2, O3, O10).
    """
    model, x = FuzzNet(recipe), images(recipe)
    with torch.no_grad():
        exact = model(x.clone())
    if not all(torch.isfinite(v).all() for v in flat(exact)):
        return "refused"
    before, state = digest(model), global_state()
    target = TARGETS[recipe.seed % len(TARGETS)]
    compiled = build(model, x, target)
    assert digest(model) == before and global_state() == state, "the user's model or torch changed"
    check_calls(compiled, x, splits=not any(uses_the_batch(m) for m in model.modules()))
    check_file(model, compiled, x, target)
    if recipe.seed % OLDER == 0 and target != "qnnpack":
        check_older_cpus(model, x, target)
    if recipe.seed % 5 == 0:
        check_pass_order(model, x)
    reference = build(model, x, "reference")
    quality = fxq.sqnr(torch.cat([v.flatten() for v in flat(reference(x))]),
                       torch.cat([v.flatten() for v in flat(compiled(x))]))
    assert quality > FLOOR, f"{target} is {quality:.1f} dB from the reference"
    assert [v.shape for v in flat(exact)] == [v.shape for v in flat(compiled(x))]
    return "ok"


def check_pass_order(model, x):
    """Passes that commute may trade places: the REFERENCE graph is the same (O12)."""
    texts = []
    for order in (QUANTIZE, (*QUANTIZE[:2], QUANTIZE[4], QUANTIZE[2], QUANTIZE[3], *QUANTIZE[5:])):
        prepared = fxq.prepare(model, example_inputs=(x,), verify=False)
        seen = fxq.calibrate(prepared, [x, 0.7 * x])
        prepared.manager.context = replace(prepared.context, statistics=seen)
        prepared.manager.run(prepared.graph_module, order)
        texts.append(prepared.manager.texts[fxq.Stage.REFERENCE])
    assert texts[0] == texts[1], "the order of fold-clamp and correct-bias matters"


def check_older_cpus(model, x, target):
    """A model for any x86 CPU saturates under no kernel of AVX2 (O4)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.fxq"
        build(model, x, target, isa="any").save(path)
        compare_isas(path, "any x86 CPU")


def build(model, x, target, **options):
    return fxq.compile(model, target=target, **options, example_inputs=(x,), calibration_data=[x, 0.7 * x],
                       runtime="python")


def global_state():
    return (torch.backends.quantized.engine, torch.get_rng_state().sum().item(),
            torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())


def uses_the_batch(module):
    """A batch norm without running statistics: its outputs depend on the whole batch."""
    return isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is None


def check_calls(compiled, x, splits):
    """Batches may be split (O5), memory may lie anyhow (O6), any engine may be current.

    Both but for norms over the batch: they are float sums, whose last bits follow the layout, and
    a later rounding to integers can make a step of that.
    """
    wanted = compiled(x)
    with using_engine("qnnpack"):
        assert equal(compiled(x), wanted), "another global engine gives other bits"
    if not splits:
        return
    whole = [torch.cat([a, b]) for a, b in zip(flat(compiled(x[:1])), flat(compiled(x[1:])),
                                               strict=True)]
    close = all(torch.allclose(a, b, atol=1e-5, rtol=1e-5)
                for a, b in zip(flat(wanted), whole, strict=True))
    assert close, "a batch differs from its parts"
    for name, view in (("channels_last", x.contiguous(memory_format=torch.channels_last)),
                       ("strided", torch.stack([x, x], -1)[..., 0])):
        same = all(torch.allclose(a, b, atol=1e-5, rtol=1e-5) for a, b in zip(
            flat(wanted), flat(compiled(view)), strict=True))
        assert same, f"a {name} input gives other values"


def check_file(model, compiled, x, target):
    """Saved and loaded, the same bits (O7); built twice, the same bytes (O8)."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.fxq", Path(folder) / "b.fxq"
        compiled.save(first)
        build(model, x, target).save(second)
        assert first.read_bytes() == second.read_bytes(), "two builds differ"
        assert equal(fxq.load(first, runtime="python")(x), compiled(x)), "a loaded model differs"
