"""What other packages add to fxq: one way in, by entry points, each name owned once.

    [project.entry-points."fxq.targets"]
    toy = "toy_package.target:TOY"

Looking up which names exist imports nothing; a plugin's code runs when its name is asked for by
the caller. A name that comes from a file is no such request: `fxq.load` uses `known`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from fxq.errors import ConfigError

TARGETS, OPERATORS, CALIBRATORS, RUNTIMES, PASSES = GROUPS = (
    "fxq.targets", "fxq.operators", "fxq.calibrators", "fxq.runtimes", "fxq.passes")
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """One entry point: what it adds, its name, the package that owns it, and its version."""

    group: str
    name: str
    owner: str
    version: str
    point: EntryPoint

    def __str__(self) -> str:
        return f"{self.group}:{self.name} of {self.owner} {self.version}"


_LOADED: dict[tuple[str, str], tuple[Plugin, object]] = {}


@cache
def plugins(group: str) -> Mapping[str, Plugin]:
    """The installed plugins of a group, by name. Imports none of them.

    Raises ConfigError when two packages claim one name.
    """
    found: dict[str, Plugin] = {}
    for point in entry_points(group=group):
        owner = point.dist.name if point.dist else "an unknown package"
        plugin = Plugin(group, point.name, owner, point.dist.version if point.dist else "", point)
        other = found.setdefault(point.name, plugin)
        if other.owner != owner:
            raise ConfigError(f"two packages add {point.name!r} to {group}",
                              why=f"{other.owner} and {owner} both claim the name",
                              fix="uninstall one of them")
    return found


def load_plugin(group: str, name: str, kind: type[T], taken: Container[str]) -> T | None:
    """Import a plugin by name, or give None where none has it.

    Raises ConfigError when fxq itself (`taken`) has the name, when the import fails, for an
    object that is no `kind`, or for one that has a name of its own that is another.
    """
    plugin = plugins(group).get(name)
    if plugin is None:
        return None
    if (group, name) not in _LOADED:
        _LOADED[group, name] = plugin, _imported(plugin, kind, taken)
    value = _LOADED[group, name][1]
    assert isinstance(value, kind)
    return value


def _imported(plugin: Plugin, kind: type[T], taken: Container[str]) -> T:
    if plugin.name in taken:
        raise ConfigError(f"{plugin} hides a name of fxq's own", fix="give it another name")
    try:
        value = plugin.point.load()
    except Exception as error:  # whatever a foreign package raises when it is imported
        raise ConfigError(f"{plugin} cannot be imported",
                          why=f"{type(error).__name__}: {str(error)[:200]}",
                          fix=f"mend or uninstall {plugin.owner}") from error
    if not isinstance(value, kind):
        raise ConfigError(f"{plugin} is no {kind.__name__}",
                          why=f"{plugin.point.value} is a {type(value).__name__}",
                          fix=f"point the entry point at a {kind.__name__}")
    own = getattr(value, "name", plugin.name)
    if own != plugin.name:
        raise ConfigError(f"{plugin} calls itself {own!r}",
                          why="files, locks and reports have the name of the object",
                          fix="give the entry point the same name")
    return value


def known(group: str, name: str, kind: type[T]) -> T | None:
    """A plugin that this process has loaded already; never imports one."""
    loaded = _LOADED.get((group, name))
    return loaded[1] if loaded and isinstance(loaded[1], kind) else None


def in_use(names: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Of some names by group, those that are loaded plugins', with owner and version; for locks."""
    found = {_LOADED[group, name][0] for group, own in names.items() for name in own
             if (group, name) in _LOADED}
    return tuple(sorted(map(str, found)))


def installed() -> tuple[Plugin, ...]:
    """All installed plugins, in the order of their groups. Imports none of them."""
    return tuple(plugin for group in GROUPS for _, plugin in sorted(plugins(group).items()))
