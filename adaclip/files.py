"""Files and folders that appear complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaclip.config import AdaCLIPError

try:
    import fcntl
except ImportError:  # Windows: what killed writers leave stays
    fcntl = None

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}
# What is being written is called .<name>.<random>.partial until it is complete, and a folder that it replaces
# .<name>.<random>.previous until the new one stands.
PARTIAL, PREVIOUS = ".partial", ".previous"
SMALL = 16 << 20  # bytes; the code in an archive of torch is compressed
MOST_BYTES = 512 << 20  # of a file that is read whole


class FileError(AdaCLIPError, ValueError):
    """A file has the wrong content. The message names it."""


class WriteError(AdaCLIPError, OSError):
    """A file or folder cannot be written. The message names it, the reason and the remedy."""

    def __init__(self, path: Path, reason: str) -> None:
        remedy = "Make room" if "space" in reason or "quota" in reason else "Make it writable"
        message = f"{path}: cannot be written ({reason}). {remedy}, or name another place, and run the same again."
        super().__init__(message)
        self.message, self.strerror = message, reason

    def __str__(self) -> str:
        return self.message


def failure_line(error: BaseException) -> str:
    """Return what an error says in one line; of the system's errors, the file first and then what to do."""
    text = " ".join(str(error).split())
    if out_of_memory(error):
        return (
            f"The memory is full ({text[:200] or 'MemoryError'}). Lower batch sizes or widths, or give smaller files."
        )
    if isinstance(error, AdaCLIPError) or not isinstance(error, OSError) or error.filename is None:
        return text
    remedy = "Check the path."
    if error.errno in _DISK:
        remedy = "Make room, or name another place, and run the same again."
    elif error.errno in (errno.EACCES, errno.EPERM):
        remedy = "Change its permissions, or name another place."
    return f"{os.fsdecode(error.filename)}: {error.strerror}. {remedy}"


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; torch reports it as a RuntimeError."""
    said = str(error).lower()
    full = "allocate memory" in said or "out of memory" in said
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and full)


@contextmanager
def atomic_folder(folder: Path, *, resume: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` if nothing fails; a symbolic link keeps its target.

    `resume` is a part of a file name that identifies everything the content depends on. With it, an interruption
    (Ctrl-C, a signal, a power cut) keeps the temporary folder, and the next attempt with the same key starts from it.
    Temporary folders that other attempts left are removed, and a folder that one had moved away is put back.
    Raises FileError for the working directory, which cannot be replaced, and WriteError if writing fails.
    """
    folder = folder.resolve()
    if folder == Path.cwd():
        raise FileError(f"{folder}: this is the working directory, which cannot be replaced. Name another folder.")
    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        own = f".{folder.name}.{resume}{PARTIAL}"
        for path in _leftovers(folder):
            if path.name != own:
                _clear(path)
        staging, lock = _locked_folder(folder, own if resume else None)
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
        finally:
            _unlock(lock)


@contextmanager
def atomic_file(path: Path, *, clean: bool = True) -> Iterator[Path]:
    """Yield a temporary path whose file replaces `path`, with the permissions of an earlier file, if nothing fails.

    clean: remove what killed writers of this file left beside it, which reads the whole folder. Raises WriteError if
    writing fails.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers(path) if clean else ():
            _clear(leftover)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
        _lock(handle, wait=True)
        staging = Path(name)
        try:
            yield staging
            staging.chmod(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666 & ~_umask())
            os.replace(staging, path)
        finally:
            staging.unlink(missing_ok=True)
            os.close(handle)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_file(path) as staging:
        staging.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def check_regular(path: Path, kind: type[Exception] = FileError) -> None:
    """Raise FileError, or another error, for a pipe, a device or a folder; FileNotFoundError if there is nothing."""
    # A pipe without a writer blocks as soon as it is opened, and some devices never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise kind(f"{path}: not a regular file. Give a file.")


def read_bytes(path: Path, most: int = MOST_BYTES, kind: type[Exception] = FileError) -> bytes:
    """Read a regular file; raise FileError, or another error, for anything else, and for more than `most` bytes."""
    check_regular(path, kind)
    with path.open("rb") as file:
        content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if content is None or len(content) > most:
        raise kind(f"{path}: more than {most:,} bytes, far too large for what it should be. Give another file.")
    return content


def check_unpacked(path: Path) -> None:
    """Raise FileError for a zip archive that is compressed: torch stores its tensors as they are."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > path.stat().st_size + SMALL:
            raise FileError(f"{path}: unpacks to {total:,} bytes, which torch.save does not do. Download it again.")


def read_json(path: Path) -> dict:
    """Read a JSON object from a file; raise FileError if it holds something else."""
    content = parse_json(read_bytes(path), path)
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, found {type(content).__name__}. Restore the file.")
    return content


def parse_json(content: bytes, where: object) -> Any:
    """Parse JSON; raise FileError, which names `where`, for anything else and for content of absurd depth."""
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error or "too large"
        raise FileError(f"{where}: not valid JSON ({reason}). Restore the file, or create it again.") from error


def remove_partial(folder: Path) -> None:
    """Remove the temporary files in `folder` that interrupted writers left, and put back what they had moved away."""
    for path in [*folder.glob(f".*{PREVIOUS}"), *folder.glob(f".*{PARTIAL}")]:
        _clear(path)


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
    # A folder with content cannot be replaced by a rename, so it is moved away first, and deleted once the new one
    # stands. Its lock, which moves with it, keeps other processes from taking it for a leftover meanwhile.
    previous = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{PREVIOUS}")
    lock = _open_locked(folder)
    try:
        os.replace(folder, previous)
        try:
            os.replace(staging, folder)
        except BaseException as error:
            try:
                os.replace(previous, folder)
            except OSError:
                raise FileError(
                    f"{folder}: could not be replaced ({error}), and its content is now in {previous}. Rename it back, "
                    "or run the same again."
                ) from error
            raise
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        _unlock(lock)


def _leftovers(path: Path) -> list[Path]:
    """What other writers of `path` left beside it, moved folders first and of these the newest."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.\w+({re.escape(PARTIAL)}|{re.escape(PREVIOUS)})")
    try:
        found = [path.with_name(name) for name in os.listdir(path.parent) if ours.fullmatch(name)]
    except OSError:  # a folder that may be written but not listed
        return []
    return sorted(found, key=lambda each: (each.suffix != PREVIOUS, -each.lstat().st_ctime_ns))


def _clear(path: Path) -> None:
    """Remove a temporary file or folder, or put a moved folder back, unless its writer is still at work."""
    lock = _open_locked(path)
    if lock is None and fcntl is not None:
        return
    try:
        folder = path.with_name(path.name[1 : -len(PREVIOUS)].rpartition(".")[0])
        if path.suffix == PREVIOUS and not folder.exists():
            os.replace(path, folder)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        _unlock(lock)


def _locked_folder(folder: Path, name: str | None) -> tuple[Path, int | None]:
    """A temporary folder, of that name if one is given, and its lock."""
    while True:
        staging = folder.with_name(name or f".{folder.name}.{secrets.token_hex(4)}{PARTIAL}")
        staging.mkdir(exist_ok=name is not None)
        lock = _open_locked(staging, wait=True)
        if staging.is_dir():  # another process may have taken it for a leftover before it was locked
            return staging, lock
        _unlock(lock)


def _open_locked(path: Path, *, wait: bool = False) -> int | None:
    """A handle that locks a file or folder until it is closed; None if it is gone, locked, or cannot be locked.

    The system drops the lock however the process ends, so what is not locked has no writer.
    """
    if fcntl is None or path.is_symlink():
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    if _lock(handle, wait=wait):
        return handle
    os.close(handle)
    return None


def _lock(handle: int, *, wait: bool = False) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # locked by another process, or a file system without locks
        return False
    return True


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn failures to write, some of which libraries report without a file's name, into a WriteError."""
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        if (reason := _write_failure(error, path)) is None:
            raise
        raise WriteError(path, reason) from error


def _write_failure(error: Exception, path: Path) -> str | None:
    """Why writing failed; None if the error is about something else."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        named = Path(os.fsdecode(error.filename))
        inside = named.relative_to(path.parent).parts[:1] if named.is_relative_to(path.parent) else None
        ours = inside == () or (inside and (inside[0] == path.name or inside[0].startswith(f".{path.name}.")))
        return error.strerror if ours or named in path.parents else None
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror if error.errno in _DISK else None
    numpy, safetensors = re.fullmatch(r"\d+ requested and \d+ written", text), "(os error " in text
    if not numpy and not (safetensors and type(error).__name__ == "SafetensorError"):
        return None
    return os.strerror(errno.ENOSPC) if numpy or "No space" in text else text


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
