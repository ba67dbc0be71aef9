"""The best assignment within bounds, exactly: an integer linear program, solved by HiGHS.

A layer has one scheme: its binary variables add up to one. Other operators follow their inputs, as
placement has them: on integers as soon as one input is, and averages if they are read as integers
too. (Placement has rarer rules besides; what is reported follows from placement itself.) A value
whose maker and reader differ crosses, which costs microseconds, and is rounded once for all that
reads it. Everything but the binaries is continuous: at the optimum it lies on the bounds that the
binaries give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from torch.fx import Node

from fxq.analysis.placement import average_behind
from fxq.budget.table import FLOAT, Table, activations, is_layer
from fxq.ir.facts import info
from fxq.ir.ops import Kind, op_of
from fxq.ir.rewriter import label
from fxq.profiler.first_order import Rounding, form_of, weight_form

Sum = dict[int, float]  # of variables, each with its factor
OBJECTIVES = ("us", "bytes", "noise")
_TIE = 1e-4  # of the other objectives, each as a share of its range: among equals, the better one


@dataclass(frozen=True)
class Bounds:
    """The most of each that an assignment may cost; `noise` is the variance of the margins."""

    us: float = inf
    bytes: float = inf
    noise: float = inf


@dataclass
class _Program:
    """Variables, rows, and the three sums that are bounded or minimised."""

    table: Table
    binary: list[bool] = field(default_factory=list)
    rows: list[tuple[Sum, float, float]] = field(default_factory=list)
    chosen: dict[tuple[str, str], int] = field(default_factory=dict)
    sums: dict[str, Sum] = field(default_factory=lambda: {name: {} for name in OBJECTIVES})
    constants: dict[str, float] = field(default_factory=lambda: dict.fromkeys(OBJECTIVES, 0.0))
    on_integers: dict[Node, Sum] = field(default_factory=dict)
    rounded: set[Rounding] = field(default_factory=set)  # with all layers in one scheme, not moved

    def variable(self, binary: bool = False) -> int:
        self.binary.append(binary)
        return len(self.binary) - 1

    def add(self, name: str, sum_: Sum, factor: float) -> None:
        for variable, share in sum_.items():
            self.sums[name][variable] = self.sums[name].get(variable, 0.0) + share * factor

    def at_least(self, variable: int, *sums: tuple[Sum, float], constant: float = 0.0) -> None:
        """variable >= the sums, each with its factor, plus the constant."""
        row: Sum = {variable: 1.0}
        for sum_, factor in sums:
            for other, share in sum_.items():
                row[other] = row.get(other, 0.0) - share * factor
        self.rows.append((row, constant, inf))

    def at_most(self, sum_: Sum, others: Sequence[Sum]) -> None:
        """The sum is not more than all others together."""
        row = {variable: -share for variable, share in sum_.items()}
        for other in others:
            for variable, share in other.items():
                row[variable] = row.get(variable, 0.0) + share
        self.rows.append((row, 0.0, inf))


def solve(table: Table, bounds: Bounds, objective: str) -> dict[str, str] | None:
    """The assignment that costs least of `objective` within the bounds; None where none is."""
    from scipy.optimize import Bounds as Box  # slow to import, and only budgets need it
    from scipy.optimize import LinearConstraint, milp  # as above
    from scipy.sparse import csr_array  # as above

    program = _program(table)
    limits = [(dict(program.sums[name]), -inf, getattr(bounds, name) - program.constants[name])
              for name in OBJECTIVES if getattr(bounds, name) < inf]
    rows, count = [*program.rows, *limits], len(program.binary)
    scaled = [_scaled(row) for row in rows]
    entries = [(i, j, v) for i, (row, _, _) in enumerate(scaled) for j, v in row.items()]
    at, columns, values = zip(*entries, strict=True)
    matrix = csr_array((values, (at, columns)), shape=(len(rows), count))
    found = milp(_objective(program, objective, count), bounds=Box(0, 1),
                 integrality=np.array(program.binary, int), constraints=LinearConstraint(
                     matrix, [low for _, low, _ in scaled], [high for _, _, high in scaled]),
                 options={"mip_rel_gap": 0.0})
    if found.x is None:
        return None
    return {path: max(table.schemes, key=lambda s: found.x[program.chosen[path, s]]
                      if (path, s) in program.chosen else -1.0) for path in table.mixed.paths}


def _scaled(row: tuple[Sum, float, float]) -> tuple[Sum, float, float]:
    """The same row with factors near one, for the solver's tolerances."""
    sum_, low, high = row
    largest = max(map(abs, sum_.values()), default=0.0) or 1.0
    return {k: v / largest for k, v in sum_.items()}, low / largest, high / largest


def _objective(program: _Program, objective: str, count: int) -> np.ndarray[tuple[int], np.dtype[
        np.float64]]:
    total = np.zeros(count)
    for name in OBJECTIVES:
        row = np.zeros(count)
        for variable, value in program.sums[name].items():
            row[variable] = value
        total += row / (np.abs(row).sum() or 1.0) * (1.0 if name == objective else _TIE)
    return total


def _program(table: Table) -> _Program:
    program = _Program(table, constants={"us": table.fixed_us, "bytes": table.fixed_bytes,
                                         "noise": 0.0})
    for scheme in table.schemes:
        program.rounded |= table.mixed.roundings(dict.fromkeys(table.mixed.paths, scheme))
    for path in table.mixed.paths:
        for scheme in table.schemes:
            program.chosen[path, scheme] = program.variable(binary=True)
        program.rows.append(({program.chosen[path, s]: 1.0 for s in table.schemes}, 1.0, 1.0))
    for node in table.nodes():
        _add_layer(program, node) if is_layer(node) else _add_follower(program, node)
    for node in table.nodes():
        if not is_layer(node):
            _bind_follower(program, node)
    for node in table.module.graph.nodes:
        if node.op == "placeholder" or node.op.startswith("call_"):
            _add_value(program, node)
    return program


def _add_layer(program: _Program, node: Node) -> None:
    table = program.table
    program.on_integers[node] = {
        program.chosen[label(node), s]: 1.0 for s in table.schemes
        if node in table.placements[s].integer}
    for scheme in table.schemes:
        placed = table.placements[scheme]
        rounds = node in placed.integer | placed.dynamic | placed.weight_only
        one: Sum = {program.chosen[label(node), scheme]: 1.0}
        form = scheme if rounds else FLOAT
        program.add("us", one, table.cost(table.us, node, form))
        program.add("bytes", one, table.cost(table.bytes, node, form))
        if rounds:
            program.add("noise", one, table.noise.get(
                Rounding("weight", info(node).value, weight_form(table.scheme(scheme))), 0.0))


def _add_follower(program: _Program, node: Node) -> None:
    """It may be on integers where the whole scheme would have it so."""
    table, own = program.table, Sum()
    if node in table.placements[table.base].integer:
        own[program.variable()] = 1.0
    program.on_integers[node] = own
    for name in ("us", "bytes"):
        of = getattr(table, name)
        program.constants[name] += table.cost(of, node, FLOAT)
        program.add(name, own, table.cost(of, node, table.base) - table.cost(of, node, FLOAT))


def _bind_follower(program: _Program, node: Node) -> None:
    """On integers iff an input is; of what averages, iff somebody reads it as integers too."""
    variable = next(iter(program.on_integers[node]), None)
    if variable is None:
        return
    own: Sum = {variable: 1.0}
    inputs = [program.on_integers.get(s, {}) for s in activations(node)]
    readers = [program.on_integers.get(u, {}) for u in _behind_views(node)]
    program.at_most(own, inputs)
    averages = average_behind(node) is not None and not gives_float(program.table, node)
    if averages:
        program.at_most(own, readers)
    for sum_ in inputs:
        for reader in readers if averages else [None]:
            other = () if reader is None else ((reader, 1.0),)
            program.at_least(variable, (sum_, 1.0), *other, constant=-float(averages))


def _behind_views(node: Node) -> list[Node]:
    """What reads a value, be it reshaped."""
    found: list[Node] = []
    for user in node.users:
        op = op_of(user)
        found += _behind_views(user) if op is not None and op.reshapes else [user]
    return found


def gives_float(table: Table, node: Node) -> bool:
    """Its kernel can give float without a cast, and does where nobody reads integers."""
    row = table.placements[table.base].rows.get(node)
    return row is not None and bool(row.float_call)


def _add_value(program: _Program, node: Node) -> None:
    """A value that crosses, and that is rounded."""
    table = program.table
    made, key = program.on_integers.get(node, {}), info(node).value
    readers = [u for u in node.users if (op := op_of(u)) is None or op.kind is not Kind.SHAPE]
    if table.enter.get(key):
        enters = program.variable()
        program.add("us", {enters: 1.0}, table.enter[key])
        for reader in readers:
            program.at_least(enters, (program.on_integers.get(reader, {}), 1.0), (made, -1.0))
    if table.leave.get(key) and not gives_float(table, node):
        leaves = program.variable()
        program.add("us", {leaves: 1.0}, table.leave[key])
        for reader in readers:
            program.at_least(leaves, (made, 1.0), (program.on_integers.get(reader, {}), -1.0))
    for form, schemes in _forms(table).items():
        rounding = Rounding("value", key, form)
        if not table.noise.get(rounding):
            continue
        rounds = program.variable()
        program.add("noise", {rounds: 1.0}, table.noise[rounding])
        moved = [] if rounding in program.rounded else [(made, -1.0)]  # its maker has rounded it
        for reader in readers:
            program.at_least(rounds, (_as(program, reader, schemes), 1.0), *moved)
        if not moved and not gives_float(table, node):
            others = [(program.on_integers.get(r, {}), -1.0) for r in readers]
            program.at_least(rounds, (_as(program, node, schemes), 1.0), *others)


def _forms(table: Table) -> dict[str, list[str]]:
    """The schemes by the integers of their values."""
    found: dict[str, list[str]] = {}
    for name in table.schemes:
        found.setdefault(form_of(table.scheme(name).activation), []).append(name)
    return found


def _as(program: _Program, node: Node, schemes: list[str]) -> Sum:
    """1 where a node computes on integers of one of these schemes."""
    table, sum_ = program.table, program.on_integers.get(node, {})
    if is_layer(node):
        own = {program.chosen[label(node), s] for s in schemes}
        return {v: share for v, share in sum_.items() if v in own}
    return sum_ if table.base in schemes else {}


__all__ = ["Bounds", "solve"]
