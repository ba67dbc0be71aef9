"""The whole pipeline, in order, with the reason for each place."""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import tabulate

from fxq.errors import ConfigError, did_you_mean
from fxq.passes.absorb_add import AbsorbAdd
from fxq.passes.base import Pass
from fxq.passes.batch_norm_to_affine import BatchNormToAffine
from fxq.passes.cast_half import CastHalf
from fxq.passes.convert import Convert
from fxq.passes.correct_bias import CorrectBias
from fxq.passes.equalize import Equalize
from fxq.passes.equalize_clamps import EqualizeClamps
from fxq.passes.fold_batch_norm import FoldBatchNorm
from fxq.passes.fold_clamp import FoldClamp
from fxq.passes.fold_pad import FoldPad
from fxq.passes.fold_qdq import FoldQdq
from fxq.passes.fuse_activation import FuseActivation
from fxq.passes.insert_observers import InsertObservers
from fxq.passes.lower import Lower
from fxq.passes.normalize import Normalize
from fxq.passes.pair_safe_weights import PairSafeWeights
from fxq.passes.quantize_bias import QuantizeBias
from fxq.passes.recognize_moves import RecognizeMoves
from fxq.passes.tabulate import Tabulate
from fxq.system import plugins

Step = tuple[Pass, str]  # a pass, and the reason for its place

FUSE_STEPS: tuple[Step, ...] = (
    (Normalize(), "first: every later pass knows one spelling per operator"),
    (RecognizeMoves(), "early: values that only move keep their format, and have kernels"),
    (FoldPad(), "before batch norms, which need the convolution next to them"),
    (FoldBatchNorm(), "before activations, which come behind the norm"),
    (BatchNormToAffine(), "what no layer could take; before activations, so that it absorbs one"),
    (FuseActivation(), "last of the float rewrites: its input is final"),
)
REPAIR_STEPS: tuple[Step, ...] = (  # those that the scheme names in `repairs`
    (Equalize(), "on final layers, and before anything is measured"),
    (EqualizeClamps(), "after what is exact; the two share no value"),
)
OBSERVE_STEPS: tuple[Step, ...] = (
    (InsertObservers(), "on the fused graph, so that no value is watched that no kernel keeps"),
)
QUANTIZE_STEPS: tuple[Step, ...] = (
    (Convert(), "formats become explicit; needs statistics"),
    (PairSafeWeights(), "while weights are still plain integers"),
    (CorrectBias(), "after the last change of the integer weights"),
    (QuantizeBias(), "after the last change of the float biases"),
    (FoldClamp(), "before folding pairs, which would hide the quantize behind a clamp"),
    (FoldQdq(), "integers stay integers between operators"),
    (AbsorbAdd(), "what only some engines do, when it is clear who reads what"),
    (Tabulate(), "last: a table holds the final formats of what a function reads and makes"),
)
LOWER_STEPS: tuple[Step, ...] = (
    (Lower(), "the target's kernels; apart, because a file holds the graph before it"),
)
HALF_STEPS: tuple[Step, ...] = (
    (CastHalf(), "all there is to half precision: the target's float kernels take it from here"),
)


def _passes(*parts: tuple[Step, ...]) -> tuple[Pass, ...]:
    return tuple(item for part in parts for item, _ in part)


FUSE = _passes(FUSE_STEPS)
PREPARE = _passes(FUSE_STEPS, OBSERVE_STEPS)
QUANTIZE = _passes(QUANTIZE_STEPS)
FINISH = _passes(QUANTIZE_STEPS, LOWER_STEPS)
HALF = _passes(HALF_STEPS)


def pipeline_table() -> str:
    """Every pass in order, with its stages, its effect on numbers, and the reason for its place."""
    steps = (*FUSE_STEPS, *REPAIR_STEPS, *OBSERVE_STEPS, *QUANTIZE_STEPS, *LOWER_STEPS, *HALF_STEPS)
    rows = [(p.name, f"{p.before} -> {p.after}", p.effect.name.lower(), reason)
            for p, reason in steps]
    table = tabulate(rows, headers=("pass", "stages", "effect", "why here"))
    return (f"{table}\n\nIn half precision, cast-half takes the place of convert and all that "
            "follows it. Repairs (equalize, equalize-clamps) run where the scheme names them.\n")


def repairs(names: Iterable[str]) -> tuple[Pass, ...]:
    """The repairs of these names, in the pipeline's order. Raises ConfigError for others."""
    known = [item.name for item, _ in REPAIR_STEPS]
    for name in names:
        if name not in known:
            raise ConfigError(f"no repair is named {name!r}", fix=did_you_mean(name, known))
    return tuple(item for item, _ in REPAIR_STEPS if item.name in names)


def named_passes(passes: Iterable[Pass | str]) -> tuple[Pass, ...]:
    """The user's passes; a name is that of an installed plugin's. Raises ConfigError."""
    own = {p.name for p in (*PREPARE, *_passes(REPAIR_STEPS), *FINISH, *HALF)}
    return tuple(_plugin(p, own) if isinstance(p, str) else p for p in passes)


def _plugin(name: str, own: set[str]) -> Pass:
    if name in own:
        raise ConfigError(f"pass {name!r} is fxq's own, and runs by itself",
                          fix="name passes of plugins only")
    found: Pass | None = plugins.load_plugin(
        plugins.PASSES, name, Pass, own)  # type: ignore[type-abstract]
    if found is None:
        raise ConfigError(f"no installed package adds a pass {name!r}",
                          fix=did_you_mean(name, list(plugins.plugins(plugins.PASSES))))
    return found
