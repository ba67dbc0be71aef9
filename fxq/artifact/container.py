"""The file itself: three stored members, or five, in a fixed order, sealed by one digest.

A zip archive that any tool can list, always with the same bytes for the same content: no
compression, no times, no extras. The archive's comment is the SHA-256 of all bytes before it,
so that no bit can change unseen.
"""

from __future__ import annotations

import hashlib
import io
import zipfile

from fxq.errors import ArtifactError

MEMBERS = ("manifest.json", "graph.json", "weights.safetensors")
PROGRAM = ("program.json", "program.safetensors")  # both behind them, or neither
_MAGIC = b"PK\x03\x04"
_DIGEST = 64  # hexadecimal digits of a SHA-256
_EPOCH = (1980, 1, 1, 0, 0, 0)
LARGEST_JSON = 16 << 20


def pack(members: dict[str, bytes]) -> bytes:
    """The bytes of a file with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in filter(members.__contains__, MEMBERS + PROGRAM):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name])
        archive.comment = b"0" * _DIGEST
    content = buffer.getvalue()
    body = content[:-_DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def unpack(content: bytes, where: str) -> dict[str, bytes]:
    """The members of a file; raises ArtifactError when a single bit is not as it was written."""
    return {name: bytes(part) for name, part in views(memoryview(content), where).items()}


def views(content: memoryview, where: str) -> dict[str, memoryview]:
    """The same, where they lie."""
    body, digest = content[:-_DIGEST], bytes(content[-_DIGEST:])
    if bytes(content[:4]) != _MAGIC:
        raise ArtifactError(f"{where} is no .fxq file", fix="fxq compile MODEL -o model.fxq")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ArtifactError(f"{where} is damaged", why="its digest does not match its content",
                            fix="copy it again, or build it again")
    try:
        with zipfile.ZipFile(_Window(content)) as archive:
            return _members(archive, content, where)
    except (zipfile.BadZipFile, ValueError, KeyError, NotImplementedError, EOFError) as error:
        raise ArtifactError(f"{where} is damaged", why=str(error)) from error


class _Window(io.RawIOBase):
    """A file over memory that copies only what is read of it."""

    def __init__(self, content: memoryview) -> None:
        super().__init__()
        self.content, self.place = content, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, len(self.content))[whence]
        if self.place < 0:
            raise ValueError("a place before the file")
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, size: int | None = -1) -> bytes:
        end = len(self.content) if size is None or size < 0 else self.place + size
        part = bytes(self.content[self.place:end])
        self.place += len(part)
        return part


def _members(archive: zipfile.ZipFile, content: memoryview, where: str) -> dict[str, memoryview]:
    entries = archive.infolist()
    if tuple(e.filename for e in entries) not in (MEMBERS, MEMBERS + PROGRAM):
        raise ArtifactError(f"{where} does not hold {', '.join(MEMBERS)}", why="nothing else may "
                            f"be in it but {' and '.join(PROGRAM)}, and in this order")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ArtifactError(f"{where}: {entry.filename} is compressed", why="a small file may "
                                "not become a large one")
        if entry.filename.endswith(".json") and entry.file_size > LARGEST_JSON:
            raise ArtifactError(f"{where}: {entry.filename} has {entry.file_size} bytes",
                                why=f"no graph needs more than {LARGEST_JSON}")
    return {e.filename: _stored(content, e) for e in entries}


def _stored(content: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """A stored member's bytes; the digest of the whole file stands for its own checksum."""
    head = entry.header_offset
    names = (int.from_bytes(content[head + 26: head + 28], "little"),
             int.from_bytes(content[head + 28: head + 30], "little"))
    start = head + 30 + sum(names)
    if bytes(content[head: head + 4]) != _MAGIC or start + entry.file_size > len(content):
        raise ValueError(f"{entry.filename} lies outside of the file")
    return content[start: start + entry.file_size]
