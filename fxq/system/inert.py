"""Text from a file as text: no control sequence of a terminal, no character that turns a line."""

from __future__ import annotations

from typing import Any


def inert(text: str, keep: str = "") -> str:
    """The text with everything that does not print as itself escaped, as in a Python literal.

    Escape sequences, bidirectional overrides, zero-width characters and lone surrogates are such.
    `keep` names characters that stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def all_inert(value: Any) -> Any:
    """A JSON value with each of its texts inert, keys included."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, list):
        return [all_inert(v) for v in value]
    if isinstance(value, dict):
        return {inert(k): all_inert(v) for k, v in value.items()}
    return value


__all__ = ["all_inert", "inert"]
