"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaclip.config import AdaCLIPError

# A folder that is being written is called .<name>.<random>.partial until it is complete.
PARTIAL = ".partial"
MOST_BYTES = 512 << 20  # of a file that is read whole


@contextmanager
def atomic_folder(folder: Path, *, resume: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if nothing fails; a symbolic link keeps its target.

    `resume` is a part of a file name that identifies everything the content depends on. With it, an interruption
    (Ctrl-C, a signal, a power cut) keeps the temporary folder, and the next attempt with the same key starts from it.
    Raises FileError for the working directory, which cannot be replaced.
    """
    folder = folder.resolve()
    if folder == Path.cwd():
        raise FileError(f"{folder}: this is the working directory, which cannot be replaced. Name another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{resume or secrets.token_hex(4)}{PARTIAL}"
    staging.mkdir(exist_ok=resume is not None)
    try:
        yield staging
        for path in staging.rglob("*"):
            if path.is_file():
                path.chmod(path.stat().st_mode | 0o666 & ~_umask())  # safetensors sets 0600
        _replace_folder(staging, folder)
    except BaseException as error:
        if resume is None or isinstance(error, Exception):
            shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path`, with the permissions of an earlier file, if nothing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    os.close(handle)
    staging = Path(name)
    try:
        yield staging
        staging.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as staging:
        staging.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class FileError(AdaCLIPError, ValueError):
    """A file has the wrong content. The message names it."""


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a regular file; raise FileError for a pipe, a device, a folder, and for more than `most` bytes."""
    # A pipe without a writer blocks as soon as it is opened, and some devices never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileError(f"{path}: not a regular file. Give a file.")
    with path.open("rb") as file:
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise FileError(f"{path}: more than {most:,} bytes, far too large for what it should be. Give another file.")
    return content


def read_json(path: Path) -> dict:
    """Read a JSON object from a file; raise FileError if it holds something else."""
    content = parse_json(read_bytes(path), path)
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, found {type(content).__name__}. Restore the file.")
    return content


def parse_json(content: bytes, where: object) -> Any:
    """Parse JSON; raise FileError, which names `where`, for anything else and for content of absurd depth."""
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error or "too large"
        raise FileError(f"{where}: not valid JSON ({reason}). Restore the file, or create it again.") from error


def remove_partial(folder: Path) -> None:
    """Remove the temporary files in `folder` that interrupted writers left."""
    for path in folder.glob(f".*{PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def check_replaceable(folder: Path, names: Collection[str], marks: Collection[str], what: str) -> None:
    """Raise AdaCLIPError unless `folder` is free, or contains an earlier save of this package and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise AdaCLIPError(f"{folder}: is a file; {what} is a folder. Give another name.")
    found = {path.name for path in folder.iterdir()}
    foreign = sorted(found - set(names))
    if foreign or (found and found.isdisjoint(marks)):
        held = foreign[0] if foreign else f"{what} of another program"
        raise AdaCLIPError(f"{folder}: holds {held}, which saving here would delete. Give another folder.")


def _replace_folder(staging: Path, folder: Path) -> None:
    if not folder.exists():
        os.replace(staging, folder)
        return
    # A folder with content cannot be replaced by a rename, so it is moved away first.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=PARTIAL, dir=folder.parent) as old:
        os.replace(folder, Path(old) / folder.name)
        try:
            os.replace(staging, folder)
        except OSError:
            os.replace(Path(old) / folder.name, folder)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
