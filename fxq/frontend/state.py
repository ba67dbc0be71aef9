"""What a forward leaves behind in the attributes of its modules, and how to put it back."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_CONTAINERS = (list, dict, set)


@dataclass(frozen=True)
class State:
    """All attributes of all modules; of lists, dicts and sets also what is in them."""

    attributes: tuple[tuple[str, nn.Module, dict[str, tuple[Any, Any]]], ...]

    def changed(self) -> tuple[str, ...]:
        """The names of the attributes that are no longer what they were: `self.head.count`."""
        found = []
        for path, module, before in self.attributes:
            now = vars(module)
            found += [".".join(filter(None, ("self", path, name))) for name in {**now, **before}
                      if name not in _STORES and _differs(now.get(name, _GONE), before.get(name))]
        return tuple(found)

    def restore(self) -> tuple[str, ...]:
        """Put everything back; gives the names of what had changed."""
        changed = self.changed()
        for _, module, before in self.attributes:
            attributes = vars(module)
            for name in set(attributes) - set(before):
                del attributes[name]
            attributes.update({name: _put_back(*kept) for name, kept in before.items()})
        return changed


_GONE = object()
_STORES = ("_parameters", "_buffers", "_modules")


def state_of(model: nn.Module) -> State:
    """The attributes as they are now; tensors themselves are not copied."""
    return State(tuple(
        (path, module, {name: (value, copy.copy(value) if type(value) in _CONTAINERS else None)
                        for name, value in vars(module).items()})
        for path, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)))


def _differs(now: Any, before: tuple[Any, Any] | None) -> bool:
    if before is None or now is not before[0]:
        return True
    if type(now) not in _CONTAINERS:
        return False
    old, new = _items(before[1]), _items(now)
    return len(old) != len(new) or any(a is not b for a, b in zip(old, new, strict=True))


def _items(container: Any) -> list[Any]:
    if isinstance(container, dict):
        return [item for pair in container.items() for item in pair]
    return list(container)


def _put_back(value: Any, content: Any) -> Any:
    if content is not None:
        value.clear()
        value.extend(content) if isinstance(value, list) else value.update(content)
    return value
