"""Set up processes that Python's multiprocessing starts from new: DataLoader workers on macOS and Windows, `mp.spawn`.

Such a process (start methods spawn and forkserver) imports the script and unpickles its data set, so it would load the
real CLIP and old packages would fail. What the launcher did is repeated there before the script is imported: an entry
of the data that multiprocessing sends first calls `install` while it is unpickled. Forked processes inherit everything.
"""

from __future__ import annotations

import functools
import multiprocessing.spawn
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.util import Finalize
from typing import NamedTuple

from adaclip_integrations import patches

_installed = ExitStack()  # lasts as long as the process


class Setup(NamedTuple):
    """What the launcher does to a process."""

    weights: str | None
    base: str | None
    seams: tuple[str, ...]
    keep: tuple[str, ...]
    aliases: tuple[str, ...]
    compat: bool
    cpu: bool

    def __reduce__(self) -> tuple[Callable, tuple]:
        return _install, tuple(self)


@contextmanager
def reached(setup: Setup) -> Iterator[None]:
    """Repeat the setup in every process that multiprocessing starts from new."""
    original = multiprocessing.spawn.get_preparation_data

    @functools.wraps(original)
    def get_preparation_data(name):
        return {"adaclip": setup, **original(name)}

    with patches.attribute(multiprocessing.spawn, "get_preparation_data", get_preparation_data):
        yield


def _install(*setup: object) -> None:
    """Set up this process; the encoder is loaded when it is first used."""
    from adaclip_integrations.launch import set_up

    set_up(Setup(*setup), _installed, in_worker=True)  # type: ignore[arg-type]
    Finalize(None, _installed.close, exitpriority=0)  # such processes end without atexit
