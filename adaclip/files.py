"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from adaclip.config import AdaCLIPError

# A folder that is being written is called .<name>.<random>.partial until it is complete.
PARTIAL = ".partial"


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if nothing fails.

    A symbolic link keeps its target. Raises FileError for the working directory, which cannot be replaced.
    """
    folder = _replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL, dir=folder.parent))
    try:
        yield staging
        _open_to_all(staging)
        _replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def resumable_folder(folder: Path, key: str) -> Iterator[Path]:
    """Act like `atomic_folder`, but keep the temporary folder of an interrupted attempt for the next one.

    An error removes the temporary folder; only an interruption (Ctrl-C, a signal, a power cut) keeps it.

    Args:
        folder: Folder to write.
        key: Part of a file name that identifies everything the content depends on.

    Yields:
        The temporary folder, with the files of an interrupted attempt with the same key.
    """
    folder = _replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.parent / f".{folder.name}.{key}{PARTIAL}"
    staging.mkdir(exist_ok=True)
    try:
        yield staging
        _open_to_all(staging)
        _replace_folder(staging, folder)
    except Exception:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path` if nothing fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    os.close(handle)
    staging = Path(name)
    try:
        yield staging
        staging.chmod(0o666 & ~_umask())
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as staging:
        staging.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


class FileError(AdaCLIPError, ValueError):
    """A file has the wrong content. The message names it."""


def read_json(path: Path) -> dict:
    """Read a JSON object from a file; raise FileError if it holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileError(f"{path}: not valid JSON ({error}). Restore the file, or create it again.") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, found {type(content).__name__}. Restore the file.")
    return content


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


def _replaceable(folder: Path) -> Path:
    folder = folder.resolve()
    if folder == Path.cwd():
        raise FileError(f"{folder}: this is the working directory, which cannot be replaced. Name another folder.")
    return folder


def _open_to_all(staging: Path) -> None:
    """Set the permissions that files usually get."""
    staging.chmod(0o777 & ~_umask())  # mkdtemp sets 0700, which excludes other users
    for path in staging.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o666 & ~_umask())  # and safetensors sets 0600


def _replace_folder(staging: Path, folder: Path) -> None:
    if not folder.exists():
        os.replace(staging, folder)
        return
    # A folder with content cannot be replaced by a rename, so it is moved away first.
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PARTIAL, dir=folder.parent))
    os.replace(folder, old / folder.name)
    try:
        os.replace(staging, folder)
    except OSError:
        os.replace(old / folder.name, folder)
        raise
    finally:
        shutil.rmtree(old)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
