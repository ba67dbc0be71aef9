"""Run passes in order, and hold each to its contract: stages, legal nodes, numbers.

Everything around a pass happens here and nowhere else: verification, timing, the count of
operators, dumps (`FXQ_DUMP=dir`, numbered, only when the graph changed) and the folder with
a failed pass's graphs.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from fxq.analysis.context import Context
from fxq.compiler.report import PassRecord
from fxq.compiler.reproducer import with_reproducer
from fxq.compiler.snapshot import Snapshot, first_changed, snapshot_of, within_own_noise
from fxq.compiler.verify import Integers, check_outputs, check_steps, run, run_with_integers
from fxq.errors import ConfigError, VerificationError
from fxq.ir.digests import digest_graph
from fxq.ir.facts import info, qparams
from fxq.ir.printer import format_graph, format_node, target_name
from fxq.ir.rewriter import PassResult
from fxq.ir.stages import Effect, Stage, verify_stage
from fxq.passes.base import Pass
from fxq.quantization.sqnr import sqnr_of_all
from fxq.system.logs import logger
from fxq.system.memory import give_back
from fxq.system.timing import Clock

_LOG = logger("passes")


@dataclass
class Manager:
    """Runs passes over one private graph and records what each did.

    `inputs` are example inputs; without them (or with verify=False) only the rules of the
    stages are checked, not the numbers.
    """

    context: Context
    inputs: Sequence[Tensor] = ()
    verify: bool = True
    records: list[PassRecord] = field(default_factory=list)
    texts: dict[Stage, str] = field(default_factory=dict)
    stage: Stage = Stage.FLOAT
    locking: bool = False  # keep a digest of each pass's graph, weights and all
    digests: list[tuple[str, str]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)  # of what is no pass
    # Keep texts and records, and leave a folder with the graphs of a pass that fails: of what was
    # compiled, not of what a file holds.
    recording: bool = True
    _outputs: tuple[Any, ...] | None = None
    _integers: Integers = field(default_factory=dict)  # of the REFERENCE graph, at these outputs
    _text: str = ""  # of the graph as it is
    _count: int = 0

    def fork(self, context: Context) -> Manager:
        """A manager that goes on from here in another context, and leaves this one as it is."""
        return replace(self, context=context, records=list(self.records), texts=dict(self.texts),
                       digests=list(self.digests), clock=Clock(list(self.clock.steps)))

    @property
    def last_outputs(self) -> tuple[Any, ...] | None:
        """What the latest graph computed for the example inputs, if it was verified."""
        return self._outputs

    def start_from(self, outputs: Sequence[Any]) -> None:
        """What the graph is known to compute for the example inputs: it is not run for that."""
        if self._verifies:
            self._outputs = tuple(outputs)

    def run(self, module: fx.GraphModule, passes: Sequence[Pass]) -> None:
        """Run all passes. Raises VerificationError or ConfigError; never leaves it unsaid."""
        check_order(self.stage, passes)
        if not self.recording:
            for item in passes:
                self._run_unrecorded(module, item)
                self.stage = item.after
            return
        with self.clock.step("text of the graph"):
            self._text = format_graph(module)
        for item in passes:
            self._run_one(module, item)
            self.stage = item.after
            self.texts[self.stage] = self._text

    def _run_unrecorded(self, module: fx.GraphModule, item: Pass) -> None:
        """The same checks."""
        before = self._outputs_of(module, item)
        snapshot = snapshot_of(module) if before is not None else None
        item.run(module, self.context)
        verify_stage(module, item.after)
        if snapshot is not None:
            self._check_numbers(module, item, before, snapshot)

    def _run_one(self, module: fx.GraphModule, item: Pass) -> None:
        begin = time.perf_counter()
        before_text, before_ops = self._text, count_ops(module)
        before = self._outputs_of(module, item)
        snapshot = snapshot_of(module)
        start = time.perf_counter()
        try:
            result = item.run(module, self.context)
            elapsed = time.perf_counter() - start
            give_back()  # what the pass computed with; its check needs as much again
            verify_stage(module, item.after)
            quality = self._check_numbers(module, item, before, snapshot)
        except Exception as error:
            named = self._named(error, item, snapshot, module)
            raise with_reproducer(named, item, before_text, module, snapshot,
                                  self.context, self.inputs) from error
        _LOG.info("%s: %d rewrites, %d refusals, %.1f ms", item.name, len(result.rewrites),
                  len(result.refusals), elapsed * 1e3)
        self._record(module, item, result, quality, before_text, before_ops)
        if self.locking:
            self.digests.append((item.name, digest_graph(module)))
        give_back()
        checks = time.perf_counter() - begin - elapsed
        self.records[-1] = replace(self.records[-1], milliseconds=elapsed * 1e3,
                                   check_milliseconds=checks * 1e3)

    @property
    def _verifies(self) -> bool:
        return self.verify and bool(self.inputs)

    def _outputs_of(self, module: fx.GraphModule, item: Pass) -> tuple[Any, ...] | None:
        """What the graph before a pass computes; with its integers, where the pass needs them."""
        if not self._verifies:
            return None
        needed = {n.name for n in module.graph.nodes if qparams(n) is not None} if (
            item.effect is Effect.STEPWISE) else set()
        if self._outputs is None or (needed and needed != self._integers.keys()):
            self._outputs, self._integers = run_with_integers(module, self.inputs)
        return self._outputs

    def _check_numbers(self, module: fx.GraphModule, item: Pass, before: tuple[Any, ...] | None,
                       snapshot: Snapshot) -> float | None:
        """Compare with the graph before; returns the SQNR against it, or None."""
        if before is None:
            return None
        if not snapshot.computes_the_same(module):
            self._outputs, self._integers = self._run_and_check(module, item, before, snapshot)
        return sqnr_of_all(before, self._outputs or ())

    def _run_and_check(self, module: fx.GraphModule, item: Pass, before: tuple[Any, ...],
                       snapshot: Snapshot) -> tuple[tuple[Any, ...], Integers]:
        """The outputs and integers after a pass, which keep to what the pass claims."""
        if item.effect is Effect.STEPWISE:
            return check_steps(item.name, module, self.inputs, self._integers)
        if item.after is Stage.REFERENCE:
            after, found = run_with_integers(module, self.inputs)
        else:
            after, found = run(module, self.inputs), {}
        try:
            check_outputs(item.name, item.effect, before, after)
        except VerificationError:
            if item.effect is not Effect.REASSOCIATING or not within_own_noise(
                    snapshot, self.inputs, before, after):
                raise
        return after, found

    def _named(self, error: Exception, item: Pass, snapshot: Snapshot,
               module: fx.GraphModule) -> Exception:
        """The same error, with the first operator whose value the pass has changed."""
        if not isinstance(error, VerificationError) or error.where or not self.inputs:
            return error
        node = first_changed(snapshot, module, self.inputs, item.effect)
        if node is None:
            return error
        return VerificationError(error.what, where=info(node).source, fix=error.fix,
                                 why=f"{error.why}; the first value that differs is "
                                     f"{format_node(node)}")

    def _record(self, module: fx.GraphModule, item: Pass, result: PassResult,
                quality: float | None, before_text: str, before_ops: Counter[str]) -> None:
        self._text, after_ops = format_graph(module), count_ops(module)
        changes = {op: after_ops[op] - before_ops[op] for op in {*before_ops, *after_ops}
                   if after_ops[op] != before_ops[op]}
        self.records.append(PassRecord(item.name, str(item.effect), result.rewrites,
                                       result.refusals, tuple(sorted(changes.items())), quality,
                                       result.choices))
        if self._text != before_text:
            self._dump(item.name, self._text)
        self._count += 1

    def _dump(self, name: str, text: str) -> None:
        folder = os.environ.get("FXQ_DUMP")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"{self._count:03d}-{name}.txt").write_text(text)


def check_order(stage: Stage, passes: Sequence[Pass]) -> None:
    """Refuse a pipeline whose passes do not meet at the same stage."""
    for item in passes:
        if item.before is not stage:
            raise ConfigError(f"pass {item.name} takes a {item.before} graph, but gets {stage}",
                              fix="order the passes by their before and after stages")
        stage = item.after


def count_ops(module: fx.GraphModule) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(target_name(n) for n in module.graph.nodes if n.op.startswith("call_"))
