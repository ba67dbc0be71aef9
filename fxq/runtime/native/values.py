"""Where the values of a program lie: NHWC images in storages, with borders that readers ask for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fxq.kernels.native.structs import LANE, SLACK

LINE = 64  # bytes of a cache line


@dataclass(eq=False)
class Storage:
    """Memory of one image: `h` x `w` pixels of `c` values, and a border around them.

    `offset` is the first byte of the border; `first` and `last` are the steps that use it.
    Memory of the caller has strides of its own (bytes: image, row, pixel, channel).
    """

    h: int
    w: int
    c: int
    element: int = 1
    space: int = LANE
    strides: tuple[int, int, int, int] | None = None
    border: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # top, left, bottom, right
    offset: int = 0
    first: int = -1
    last: int = -1

    @property
    def pixel(self) -> int:
        return self.c * self.element

    @property
    def row(self) -> int:
        return (self.w + self.border[1] + self.border[3]) * self.pixel

    @property
    def bytes(self) -> int:
        """What it takes, slack included, in whole cache lines."""
        size = (self.h + self.border[0] + self.border[2]) * self.row + SLACK
        return -(-size // LINE) * LINE

    def used(self, step: int) -> None:
        """A step reads or writes it."""
        self.first = step if self.first < 0 else min(self.first, step)
        self.last = max(self.last, step)


@dataclass(frozen=True)
class Value:
    """A part of a storage: `c` channels from `channel` on, and `h` x `w` pixels from (top, left).

    A padded value begins in the border, so that `top` and `left` are negative. `zero` is its
    zero point, `rank` how many dimensions torch gives it.
    """

    storage: Storage
    h: int
    w: int
    c: int
    zero: int = 0
    channel: int = 0
    top: int = 0
    left: int = 0
    rank: int = 4

    def ask_border(self, top: int, left: int, bottom: int, right: int) -> None:
        """Make room for a reader that looks so many pixels beyond the value's edges."""
        rest = (self.storage.h - self.h - self.top, self.storage.w - self.w - self.left)
        wanted = (top - self.top, left - self.left, bottom - rest[0], right - rest[1])
        border = self.storage.border
        for side, pixels in enumerate(wanted):
            border[side] = max(border[side], pixels)

    def channels(self, start: int, count: int) -> Value:
        """Some of its channels."""
        return replace(self, channel=self.channel + start, c=count)

    def padded(self, top: int, left: int, bottom: int, right: int) -> Value:
        """The value and so much of its border (less than nothing cuts off)."""
        self.ask_border(top, left, bottom, right)
        return replace(self, h=self.h + top + bottom, w=self.w + left + right,
                       top=self.top - top, left=self.left - left)

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.h, self.w, self.c

    @property
    def whole(self) -> bool:
        """It is all of its storage."""
        s = self.storage
        return (self.h, self.w, self.c, self.channel) == (s.h, s.w, s.c, 0)

    def view(self, image: int) -> dict[str, int]:
        """The fields of a `View`; `image` is the distance between images in WIDE memory."""
        s = self.storage
        image_, row, pixel, channel = s.strides or (image, s.row, s.pixel, s.element)
        above, before = s.border[0] + self.top, s.border[1] + self.left
        offset = s.offset + above * row + before * pixel + self.channel * channel
        return {"space": s.space, "zero_point": self.zero, "offset": offset, "image": image_,
                "h": self.h, "w": self.w, "c": self.c, "element": s.element, "row": row,
                "pixel": pixel, "channel": channel, "top": above, "left": before,
                "bottom": s.h + s.border[2] - self.top - self.h,
                "right": s.w + s.border[3] - self.left - self.w}
