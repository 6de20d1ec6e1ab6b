"""Work in a forked process that is killed just before a chosen file operation, as by SIGKILL or a power cut."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

OPERATIONS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_watch: list[Callable[[str, tuple], None]] = []  # what the process's only audit hook calls; hooks cannot be removed


def _hook(event: str, arguments: tuple) -> None:
    for watch in _watch:
        watch(event, arguments)


@contextmanager
def watched(root: Path, act: Callable[[str, str], None]) -> Iterator[None]:
    """Call act(event, path) before each operation that changes files below `root`; it may raise instead."""
    if not getattr(_hook, "added", False):
        sys.addaudithook(_hook)
        _hook.added = True
    inside = os.fspath(root) + os.sep

    def watch(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and flags & WRITES
        else:
            path, changes = arguments[0] if arguments else None, event in OPERATIONS
        if changes and isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(inside):
            act(event, os.path.abspath(path))

    _watch.append(watch)
    try:
        yield
    finally:
        _watch.remove(watch)


def forked(work: Callable[[], object], root: Path, at: int | None = None) -> int:
    """Do the work in a fork that is killed before file operation `at` below `root`.

    Returns the number of operations that began; minus the exit status, or the signal, if the work failed otherwise.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setpgid(0, 0)
            torch.set_num_threads(1)  # the parent's threads do not exist here
            quiet = os.open(tempfile.gettempdir() + "/.kills.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)

            numbers = itertools.count(1)

            def act(*_: str) -> None:
                os.write(writing, b".")
                if next(numbers) == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            with watched(root, act):
                work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, "rb") as pipe:
        count = len(pipe.read())
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return count if code == (0 if at is None else -signal.SIGKILL) else -max(1, abs(code))


def points(operations: int, count: int, seed: int = 0) -> list[int]:
    """File operations to be killed at: the last one, and `count - 1` others spread over all of them."""
    rng = random.Random(seed)
    others = sorted(rng.sample(range(1, operations), min(count, operations) - 1))
    return [*others, operations]


def tree(root: Path) -> dict[str, bytes]:
    """Content by relative path of every file, and b"/" of every folder; locks are left out."""
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.suffix != ".lock"}
    return {name: path.read_bytes() if path.is_file() else b"/" for name, path in found.items()}
