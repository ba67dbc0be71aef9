"""The file itself: three stored members in a fixed order, sealed by one digest.

A zip archive that any tool can list, always with the same bytes for the same content: no
compression, no times, no extras. The archive's comment is the SHA-256 of all bytes before it,
so that no bit can change unseen.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tempfile
import zipfile
from pathlib import Path

from fxq.errors import ArtifactError, ConfigError

MEMBERS = ("manifest.json", "graph.json", "weights.safetensors")
_DIGEST = 64  # hexadecimal digits of a SHA-256
_EPOCH = (1980, 1, 1, 0, 0, 0)
LARGEST_JSON = 16 << 20


def pack(members: dict[str, bytes]) -> bytes:
    """The bytes of a file with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in MEMBERS:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name])
        archive.comment = b"0" * _DIGEST
    content = buffer.getvalue()
    body = content[:-_DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def unpack(content: bytes, where: str) -> dict[str, bytes]:
    """The members of a file; raises ArtifactError when a single bit is not as it was written."""
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if not content.startswith(b"PK\x03\x04"):
        raise ArtifactError(f"{where} is no .fxq file", fix="fxq compile MODEL -o model.fxq")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise ArtifactError(f"{where} is damaged", why="its digest does not match its content",
                            fix="copy it again, or build it again")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _members(archive, content, where)
    except (zipfile.BadZipFile, ValueError, KeyError, NotImplementedError, EOFError) as error:
        raise ArtifactError(f"{where} is damaged", why=str(error)) from error


def _members(archive: zipfile.ZipFile, content: bytes, where: str) -> dict[str, bytes]:
    entries = archive.infolist()
    if tuple(e.filename for e in entries) != MEMBERS:
        raise ArtifactError(f"{where} does not hold {', '.join(MEMBERS)}", why="nothing else may "
                            "be in it, and in this order")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ArtifactError(f"{where}: {entry.filename} is compressed", why="a small file may "
                                "not become a large one")
        if entry.filename.endswith(".json") and entry.file_size > LARGEST_JSON:
            raise ArtifactError(f"{where}: {entry.filename} has {entry.file_size} bytes",
                                why=f"no graph needs more than {LARGEST_JSON}")
    return {e.filename: _stored(content, e) for e in entries}


def _stored(content: bytes, entry: zipfile.ZipInfo) -> bytes:
    """A stored member's bytes; the digest of the whole file stands for its own checksum."""
    head = entry.header_offset
    names = (int.from_bytes(content[head + 26: head + 28], "little"),
             int.from_bytes(content[head + 28: head + 30], "little"))
    start = head + 30 + sum(names)
    if content[head: head + 4] != b"PK\x03\x04" or start + entry.file_size > len(content):
        raise ValueError(f"{entry.filename} lies outside of the file")
    return content[start: start + entry.file_size]


def read_file(path: Path) -> bytes:
    """The bytes of a regular file; raises ArtifactError for anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArtifactError(f"{path} is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read", why=error.strerror or str(error)) from error


def write_file(path: Path, content: bytes) -> None:
    """Write beside the file and put it in place in one step: old or new, never half.

    Missing folders are made. Raises ConfigError when the place is full, read-only or no folder.
    """
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise ConfigError(f"{path} cannot be written", why=error.strerror or str(error),
                              fix="choose another folder; what was there is unchanged") from error
        raise
