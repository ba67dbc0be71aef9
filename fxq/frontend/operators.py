"""Operators from outside: a row of the operator table, and how models spell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from fxq.errors import ConfigError
from fxq.frontend import spellings
from fxq.frontend.spellings import Spelling
from fxq.ir.operator_table import add_operator
from fxq.ir.ops import OPS, Op
from fxq.system import plugins

_ADDED: dict[str, Operator] = {}


@dataclass(frozen=True)
class Operator:
    """A row for the operator table, with its spellings; `row.call` spells itself.

    `torch.fx` sees a call of a Python function only where the function asks for it
    (`torch.overrides.wrap_torch_function`, or a `torch.library.custom_op`); modules in `modules`
    are seen as they are.
    """

    row: Op
    functions: Mapping[Callable[..., Any], Spelling] = field(default_factory=dict)
    methods: Mapping[str, Spelling] = field(default_factory=dict)
    modules: Mapping[type[nn.Module], Spelling] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.row.name


def register(operator: Operator) -> None:
    """Make an operator known to this process; the same one twice is once.

    Raises ConfigError for a name, a function or a spelling that another operator has.
    """
    if _ADDED.get(operator.name) is operator:
        return
    functions = {operator.row.call: Spelling(operator.name), **operator.functions}
    tables: tuple[tuple[dict[Any, Spelling], Mapping[Any, Spelling]], ...] = (
        (spellings.FUNCTIONS, functions), (spellings.METHODS, operator.methods),
        (spellings.MODULES, operator.modules))
    taken = [getattr(key, "__name__", str(key)) for table, own in tables for key in own
             if key in table]
    if taken:
        raise ConfigError(f"operator {operator.name!r} cannot be added",
                          why=f"{', '.join(taken)} is the spelling of another operator",
                          fix="spell it by functions and modules of its own")
    add_operator(operator.row)
    for table, own in tables:
        table.update(own)
    _ADDED[operator.name] = operator


def load_operator(name: str) -> None:
    """Import the operator of an installed plugin; raises ConfigError where none has the name."""
    builtin = {key: row for key, row in OPS.items() if key not in _ADDED}
    operator = plugins.load_plugin(plugins.OPERATORS, name, Operator, builtin)
    if operator is None:
        raise ConfigError(f"no installed package adds the operator {name!r}",
                          fix="install it, or register it: fxq.frontend.operators.register")
    register(operator)


def load_operators() -> None:
    """Import the operators of all installed plugins: a model may use any of them."""
    for name in plugins.plugins(plugins.OPERATORS):
        load_operator(name)


__all__ = ["Operator", "load_operator", "load_operators", "register"]
