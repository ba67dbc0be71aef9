"""`fxq.diff`: what became faster, slower or less exact between two profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    from fxq.profiler.profile import Profile
    from fxq.profiler.rows import NodeProfile


_NOISE = "within the noise"


@dataclass(frozen=True)
class NodeChange:
    """One node in both profiles; microseconds, and dB where both are known.

    `clear` means that the intervals of both times (10th to 90th percentile) lie apart.
    """

    name: str
    before_us: float
    after_us: float
    before_sqnr: float | None
    after_sqnr: float | None
    clear: bool = False

    @property
    def change_us(self) -> float:
        return self.after_us - self.before_us


@dataclass(frozen=True)
class ProfileDiff:
    """Nodes by how much their time changed, clear changes first; what one side has; the whole."""

    nodes: tuple[NodeChange, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    before_us: float
    after_us: float
    size_change: int
    clear: bool = False
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [(n.name, f"{n.before_us:.1f}", f"{n.after_us:.1f}", _change(n), _decibel(n))
                for n in self.nodes]
        table = tabulate(rows, headers=("node", "before µs", "after µs", "change", "dB"),
                         disable_numparse=True)
        ratio = f"{self.before_us / max(self.after_us, 1e-9):.2f}x" if self.clear else _NOISE
        ends = [f"only before: {', '.join(self.gone)}" if self.gone else "",
                f"only after: {', '.join(self.new)}" if self.new else "",
                f"together {self.before_us:.0f} -> {self.after_us:.0f} µs ({ratio}), "
                f"{self.size_change:+d} bytes"]
        first = [f"NOT RELIABLE: {text}" for text in self.doubts]
        return "\n".join([*first, str(table), *filter(None, ends)])


def _change(n: NodeChange) -> str:
    return f"{n.change_us:+.1f}" if n.clear else _NOISE


def _decibel(n: NodeChange) -> str:
    if n.before_sqnr is None or n.after_sqnr is None:
        return ""
    return f"{n.after_sqnr - n.before_sqnr:+.1f}"


def diff(before: Profile, after: Profile) -> ProfileDiff:
    """Match nodes by their module or value; clear changes first, then by size."""
    old, new = _by_name(before), _by_name(after)
    both = [NodeChange(name, old[name].us, new[name].us, old[name].sqnr, new[name].sqnr,
                       old[name].spreads["us"].apart(new[name].spreads["us"]))
            for name in old if name in new]
    doubts = [f"{side}: {text}" for side, found in (("before", before), ("after", after))
              for text in found.doubts]
    return ProfileDiff(
        tuple(sorted(both, key=lambda n: (not n.clear, -abs(n.change_us)))),
        tuple(n for n in old if n not in new), tuple(n for n in new if n not in old),
        before.total_us, after.total_us, after.size_bytes - before.size_bytes,
        before.spreads["total_us"].apart(after.spreads["total_us"]), tuple(doubts))


def _by_name(profile: Profile) -> dict[str, NodeProfile]:
    """Names without kernels, which differ between targets; the slowest where several share one."""
    found: dict[str, NodeProfile] = {}
    for node in profile.nodes:
        key = node.name.split(":")[0]
        if key not in found or found[key].us < node.us:
            found[key] = node
    return found
