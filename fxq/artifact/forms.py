"""Bind a call of a file to its row: names, number and kinds of arguments, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from fxq.artifact.allow_list import CALLS, METHODS
from fxq.artifact.kinds import Test, test_of
from fxq.artifact.signatures import BESIDE, FUNCTIONS, INTEGERS, OPERATORS, PARTS, row_of
from fxq.ir import integers
from fxq.ir.operator_table import each_operator
from fxq.ir.ops import Op

_ALIASES = {"axis": "dim", "keepdims": "keepdim"}  # torch's functions take both


@dataclass(frozen=True)
class Form:
    """One way to call a function.

    `operands` of them stand in their place, all others by name (None: as Python has it);
    `variadic` takes what is left over.
    """

    tests: Mapping[str, Test]
    required: frozenset[str] = frozenset()
    operands: int | None = None
    variadic: tuple[str, Test] | None = None

    def refusal(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """Why the arguments are not this form's, or None."""
        names = list(self.tests)
        if self.operands is not None and len(args) != self.operands:
            return f"it takes {self.operands} operands, not {len(args)}"
        given = dict(zip(names, args, strict=False))
        rest = args[len(names):]
        if rest and self.variadic is None:
            return f"it takes {len(names)} arguments, not {len(args)}"
        for name, value in kwargs.items():
            known = name if name in self.tests else _ALIASES.get(name, name)
            if known not in self.tests or known in given:
                return f"it has no argument {str(name)[:40]!r}, or has it twice"
            given[known] = value
        missing = self.required - given.keys()
        wrong = [n for n, v in given.items() if not self.tests[n](v)]
        if self.variadic is not None and not all(map(self.variadic[1], rest)):
            wrong.append(self.variadic[0])
        return _reason(missing, wrong)


def _reason(missing: Iterable[str], wrong: Iterable[str]) -> str | None:
    for names, what in ((missing, "it lacks"), (wrong, "it cannot take this")):
        if names:
            return f"{what} {', '.join(sorted(names))}"
    return None


def _parse(row: str) -> tuple[Form, ...]:
    return tuple(map(_form, row.split(" | ")))


def _form(row: str) -> Form:
    entries = [entry.partition(":")[::2] for entry in row.split()]
    tests = {name: test_of(kind) for name, kind in entries if not name.startswith("*")}
    rest = next(((name[1:], test_of(kind)) for name, kind in entries if name.startswith("*")), None)
    return Form(tests, variadic=rest)


def _operator(op: Op, more: Mapping[str, str] | None = None) -> Form:
    """Operands by position, attributes by name; needed are those whose default is no value."""
    form = _form(" ".join([row_of(op), *(f"{n}:{k}" for n, k in (more or {}).items())]))
    beside = {entry.partition(":")[0] for entry in BESIDE.get(op.name, "").split()}
    defaults = dict.fromkeys(form.tests) | dict(op.attributes)
    needed = {name for name, test in form.tests.items() if name not in beside
              and name not in op.operands and not test(defaults[name])}
    return Form(form.tests, frozenset(needed), len(op.operands))


def _integer(row: str) -> Form:
    form = _form(row)
    names = [n for n in form.tests if n not in ("zeros", "table")]
    return Form(form.tests, frozenset(names))


def _forms() -> dict[Any, tuple[Form, ...]]:
    forms: dict[Any, tuple[Form, ...]] = {
        CALLS[name]: (_integer(row),) for name, row in INTEGERS.items()}
    forms[CALLS["parts"]] = _parse(PARTS)
    tables = (("torch.", FUNCTIONS), ("functional.", FUNCTIONS), ("operator.", OPERATORS))
    for part, table in tables:
        for name, call in CALLS.items():
            if name.startswith(part):
                forms.setdefault(call, _parse(table[name.removeprefix(part)]))
    return forms | {name: _parse(FUNCTIONS[name]) for name in METHODS}


FORMS: dict[Callable[..., Any] | str, tuple[Form, ...]] = _forms()


@each_operator
def _follow(op: Op) -> None:
    FORMS[op.call] = (_operator(op),)
    if op.name in integers.INTEGER_OPS:
        FORMS[integers.INTEGER_OPS[op.name]] = (_operator(op, {"zero_point": "int"}),)


def refusal(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Why a function or method of the allow-list cannot be called so, or None."""
    reasons = [form.refusal(args, kwargs) for form in FORMS[target]]
    return None if None in reasons else reasons[0]


def refusal_of(node: Node) -> str | None:
    """Why a node's call is none that a file may hold, or None."""
    if not node.all_input_nodes:
        return "nothing that it reads is computed"
    return refusal(node.target, node.args, node.kwargs)


__all__ = ["FORMS", "Form", "refusal", "refusal_of"]
