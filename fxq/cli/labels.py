"""Which class an image belongs to: a table of files, a map of folders, or numbered folders.

    --labels file.csv     rows of (file, class index); files are relative to --data
    --class-map map.json  {"folder": class index}, or a CSV file of (folder, class index)

A CSV file may have a header: a first row whose second cell is no number. Without either, folders
directly under --data are numbered 0, 1, 2, … in the order of their names, which is right only
when there is one folder for every output of the model; `check_classes` refuses any other number.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxq.errors import ConfigError, did_you_mean

NO_LABELS = "none"  # --labels none: images only, whatever folders they lie in
CHOICES = ("pass --class-map FILE (folder, class index) or --labels FILE (file, class index), or "
           "--labels none to compare without accuracy")


@dataclass(frozen=True)
class Labelled:
    """Files and their class indices. `folders` counts folders that were numbered by their names."""

    files: tuple[Path, ...]
    labels: tuple[int, ...] = ()
    folders: int = 0
    source: str = ""


def labelled(folder: Path, files: Sequence[Path], labels: str | None,
             class_map: Path | None) -> Labelled:
    """The images of a folder with their classes, as far as something says what they are."""
    if labels is not None and class_map is not None:
        raise ConfigError("--labels and --class-map both say what the images are", fix="drop one")
    if labels == NO_LABELS:
        return Labelled(tuple(files))
    if labels is not None:
        return _from_table(folder, Path(labels))
    names = [p.relative_to(folder).parts for p in files]
    folders = sorted({parts[0] for parts in names if len(parts) > 1})
    if class_map is not None:
        return _from_map(folder, files, folders, class_map)
    if len(folders) < 2 or any(len(parts) != 2 for parts in names):
        return Labelled(tuple(files))  # loose images, or folders of folders: no classes
    numbers = {name: i for i, name in enumerate(folders)}
    return Labelled(tuple(files), tuple(numbers[parts[0]] for parts in names), len(folders))


def _from_table(folder: Path, path: Path) -> Labelled:
    rows = _read_csv(path)
    missing = [name for name in rows if not (folder / name).is_file()]
    if missing:
        raise ConfigError(f"{path}: {len(missing)} of {len(rows)} files do not exist",
                          why=f"there is no {folder / missing[0]}",
                          fix=f"write names relative to --data {folder}")
    return Labelled(tuple(folder / name for name in rows), tuple(rows.values()), 0, str(path))


def _from_map(folder: Path, files: Sequence[Path], folders: Sequence[str],
              path: Path) -> Labelled:
    known = _read_map(path)
    loose = [p for p in files if p.parent == folder]
    if loose:
        raise ConfigError(f"{loose[0]} lies in no class folder",
                          fix=f"move it into a folder of {path}, or pass --labels FILE")
    unknown = [name for name in folders if name not in known]
    if unknown:
        raise ConfigError(f"{path} does not name {len(unknown)} of {len(folders)} folders: "
                          f"{', '.join(unknown[:3])}", fix=did_you_mean(unknown[0], known))
    found = tuple(known[p.relative_to(folder).parts[0]] for p in files)
    return Labelled(tuple(files), found, 0, str(path))


def _read_map(path: Path) -> Mapping[str, int]:
    if path.suffix.lower() != ".json":
        return _read_csv(path)
    try:
        pairs = json.loads(_text(path), object_pairs_hook=list)
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON", why=str(error)) from error
    if not isinstance(pairs, list) or not all(isinstance(p, tuple) for p in pairs):
        raise ConfigError(f"{path} is no class map", fix='write {"folder": class index, …}')
    return _unique(path, pairs)


def _read_csv(path: Path) -> dict[str, int]:
    rows = [row for row in csv.reader(_text(path).splitlines()) if row]
    if rows and len(rows[0]) > 1 and not _is_number(rows[0][1]):
        rows = rows[1:]  # a header
    short = [row for row in rows if len(row) < 2]
    if short or not rows:
        raise ConfigError(f"{path} has no rows of (name, class index)",
                          why=f"one is {short[0]}" if short else "it is empty")
    return _unique(path, [(row[0].strip(), row[1]) for row in rows])


def _unique(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, value in pairs:
        if not _is_number(value) or int(value) < 0:
            raise ConfigError(f"{path}: {name!r} has {value!r}, no class index",
                              fix="class indices are 0, 1, 2, …")
        if name in found:
            raise ConfigError(f"{path} names {name!r} twice", fix="keep one row for each name")
        found[name] = int(value)
    return found


def _is_number(value: Any) -> bool:
    text = value.strip() if isinstance(value, str) else value
    return type(text) is int or (isinstance(text, str) and text.lstrip("-").isdecimal())


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read", why=str(error)) from error


def check_classes(data: Labelled, outputs: int) -> None:
    """Raise ConfigError where classes cannot be those of a model with so many outputs."""
    if data.folders and data.folders != outputs:
        raise ConfigError(f"the data has {data.folders} class folders, the model {outputs} outputs",
                          why="folders are numbered 0, 1, 2, … by name, and these numbers would "
                              "not be the model's classes",
                          fix=CHOICES)
    high = max(data.labels, default=0)
    if high >= outputs:
        file = data.files[data.labels.index(high)]
        raise ConfigError(f"{data.source}: class {high} of {file.name} is no output of the model",
                          why=f"it has {outputs} outputs: 0 to {outputs - 1}")
