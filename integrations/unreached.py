"""What a program does that AdaCLIP does not reach; each is reported once.

Files with text features that another encoder computed in advance, such as ReMoDiffuse's `clip_feats/*.npy`: for the
texts in them the program does not use AdaCLIP, whatever else is replaced. And other Python programs that it starts.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from adaclip_integrations import patches, places

_TEXT = r"(?:captions?|lang(?:uage)?|prompts?|sentences?|texts?|txt)"
_ENCODER = rf"(?:{_TEXT}|bert|clip|t5)"
_FEATURES = r"(?:emb(?:ed(?:ding)?)?s?|feat(?:ure)?s?|vec(?:tor)?s?)"
_SEPARATOR = r"[-_. ]?"
_NAMES = re.compile(
    rf"(?<![a-z])(?:{_ENCODER}{_SEPARATOR}{_FEATURES}|{_FEATURES}{_SEPARATOR}{_ENCODER}|{_TEXT}{_SEPARATOR}cache"
    rf"|{_TEXT}[-_. ]clip|(?:all_)?emb(?:edding)?s?(?=\.|$))(?![a-z])",
    re.IGNORECASE,
)
_NO_DATA = frozenset({"", ".cfg", ".csv", ".json", ".log", ".md", ".py", ".pyc", ".toml", ".txt", ".yaml", ".yml"})
_STARTERS = frozenset({"adaclip_integrations", "os", "subprocess"})
_PYTHON = re.compile(r"(?:python[\d.]*|torchrun|accelerate|deepspeed)(?:\.exe)?")


@contextmanager
def watched() -> Iterator[None]:
    """Report such files and programs when they are opened or started."""
    with ExitStack() as undo:
        opened = _reading(builtins.open, time.time())
        for module in (builtins, io):
            undo.enter_context(patches.attribute(module, "open", opened))
        undo.enter_context(patches.attribute(os, "system", _starting(os.system, 0)))
        undo.enter_context(patches.attribute(subprocess.Popen, "__init__", _starting(subprocess.Popen.__init__, 1)))
        yield


def holds_features(path: Path) -> bool:
    """Tell whether the names of a data file and its folder are those of text features."""
    if path.suffix.lower() in _NO_DATA or "site-packages" in path.parts:
        return False
    return any(_NAMES.search(part) for part in path.parts[-2:])


def _reading(original: Callable, start: float) -> Callable:
    """Wrap `open`; files that are newer than `start` were computed with AdaCLIP."""

    @functools.wraps(original)
    def opened(file, mode="r", *args, **kwargs):
        if isinstance(file, str | os.PathLike) and isinstance(mode, str) and "r" in mode:
            path = Path(os.fsdecode(file))
            with suppress(OSError):
                if holds_features(path) and path.stat().st_mtime < start:
                    places.say(
                        f"{path.parent.name or '.'}: files there look like text features that another encoder computed "
                        "in advance. Compute them again with AdaCLIP, otherwise the generator does not read it "
                        f"({path.name} and others)",
                        once=("features", str(path.parent), path.suffix),
                    )
        return original(file, mode, *args, **kwargs)

    return opened


def _starting(original: Callable, position: int) -> Callable:
    """Wrap a function that starts programs; its command is the argument at `position`."""

    @functools.wraps(original)
    def started(*args, **kwargs):
        command = args[position] if len(args) > position else kwargs.get("args", kwargs.get("command", ""))
        with suppress(TypeError, ValueError):
            words = shlex.split(command) if isinstance(command, str) else list(map(os.fsdecode, command))
            frame = places.caller(_STARTERS)  # torch starts processes of its own
            if _unreached(words) and places.is_of_program(frame):
                places.say(
                    f"{places.location(frame)} starts another program, which AdaCLIP does not reach: "
                    f"{shlex.join(words):.100} Put {places.COMMAND} before it too, if it reads text."
                )
        return original(*args, **kwargs)

    return started


def _unreached(words: list[str]) -> bool:
    python = any(_PYTHON.fullmatch(Path(word).name) or word == sys.executable for word in words)
    return python and not any("adaclip" in Path(word).name for word in words)
