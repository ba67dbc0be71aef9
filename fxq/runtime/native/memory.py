"""The arena: storages in use at one time lie beside each other, others share memory."""

from __future__ import annotations

from collections.abc import Sequence

from fxq.runtime.native.values import Storage


def place(storages: Sequence[Storage]) -> int:
    """Give every storage its offset, and return the size of the arena in bytes.

    Greedy by size: the largest first, each in the lowest gap between those that live with it
    (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
    """
    placed: list[Storage] = []
    for storage in sorted(storages, key=lambda s: (-s.bytes, s.first)):
        others = sorted((s for s in placed if s.first <= storage.last and storage.first <= s.last),
                        key=lambda s: s.offset)
        storage.offset = _lowest_gap(others, storage.bytes)
        placed.append(storage)
    return max((s.offset + s.bytes for s in placed), default=0)


def _lowest_gap(others: Sequence[Storage], size: int) -> int:
    start = 0
    for other in others:
        if other.offset - start >= size:
            break
        start = max(start, other.offset + other.bytes)
    return start


def side_by_side(storages: Sequence[Storage]) -> int:
    """Place storages of which none shares memory; returns the bytes of one image."""
    end = 0
    for storage in storages:
        storage.offset = end
        end += storage.bytes
    return end
