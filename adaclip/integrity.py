"""Digests by which readers notice that a file changed after it was written.

A folder of networks has a `digests.json` with the SHA-256 of each of its files; a record (JSON) carries the SHA-256 of
its own content under `sha256`, its *seal*. Both detect damage and stray edits. They are no signatures: who can write a
folder can write its digests too. Folders and records without them, from earlier versions, are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

from adaclip.files import FileError, check_regular, read_json, write_json

DIGESTS = "digests.json"
SEAL = "sha256"
CHANGED = f"Download or save it again, or delete {DIGESTS} if you changed it on purpose."
CARD = "README.md"  # may be edited, and nothing reads it


def write_digests(folder: Path, *, free: Collection[str] = ()) -> None:
    """Record the digest of every file at any depth of a folder, apart from cards, hidden files and those in `free`."""
    names = [name for name in _names(folder) if name not in free]
    write_sealed(folder / DIGESTS, {"files": {name: sha256_of(folder / name) for name in names}})


def check_digests(folder: Path, remedy: str, *, whole: bool = False) -> None:
    """Raise FileError for a file that differs from the folder's digests, if it has any.

    whole: also for a file that is missing; by default, its reader says so if it needs it.
    """
    if not (folder / DIGESTS).is_file():
        return
    files = read_sealed(folder / DIGESTS, remedy).get("files")
    if not isinstance(files, dict):
        raise FileError(f"{folder / DIGESTS}: lists no files. {remedy}")
    for name, digest in files.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise FileError(f"{folder / DIGESTS}: lists {name}, outside the folder. {remedy}")
        path = folder / inside
        if not path.exists():
            if whole:
                raise FileError(f"{path}: missing. {remedy}")
        elif sha256_of(path) != digest:
            raise FileError(f"{path}: changed since it was saved (its SHA-256 differs). {remedy}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file."""
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sealed(path: Path, content: Mapping[str, object]) -> None:
    """Write a record with its seal, atomically."""
    write_json(path, {**content, SEAL: _seal(content)})


def read_sealed(path: Path, remedy: str) -> dict:
    """Read a record; raise FileError, with the remedy, if it changed since it was written."""
    content = read_json(path)
    seal = content.pop(SEAL, None)
    expected = _seal(content)
    # A damaged name of the seal must not make a record look like one from before there were seals.
    stray = seal is None and any(_seal(_without(content, name)) == value for name, value in _digests(content))
    if stray or seal not in (None, expected):
        raise FileError(f"{path}: changed since it was written (its SHA-256 differs). {remedy}")
    return content


def _seal(content: Mapping[str, object]) -> str:
    plain = json.loads(json.dumps(content))  # keys become text, as a reader finds them
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _digests(content: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in content.items() if isinstance(value, str) and len(value) == 64)


def _without(content: Mapping[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in content.items() if key != name}


def _names(folder: Path) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != CARD)
    names = (path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
    return sorted(name for name in names if name != DIGESTS)
