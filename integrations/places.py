"""The places in a program that load a text encoder: which of them get AdaCLIP, and which keep their own.

A place is a call and its file with the line. Each is reported once, because the same name can be loaded for the
generator in one place and for an evaluator in another.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# Packages between a program and the stand-ins: the caller is the first frame outside of them.
LIBRARIES = frozenset(
    [
        "accelerate",
        "adaclip_integrations",
        "clip",
        "contextlib",
        "functools",
        "importlib",
        "lightning",
        "open_clip",
        "pytorch_lightning",
        "safetensors",
        "sentence_transformers",
        "torch",
        "transformers",
    ]
)
COMMAND = "adaclip-run"
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
ADAPTERS = ("adaclip", "peft")  # they load the base, and add the adapter themselves
# Networks that judge motions are trained on their own CLIP; another encoder would change all figures.
EVALUATOR = re.compile(
    r"evaluator|eval_?(?:model|net|wrapper)|metric|clip_?score|scorer|judge|r_?precision", re.IGNORECASE
)

served: list[str] = []  # places of this process that got AdaCLIP
kept: set[str] = set()  # patterns of `--keep` that a place had
_reported: set[object] = set()


@contextmanager
def own() -> Iterator[None]:
    """Start with no places, and restore those there were."""
    before = served[:], set(kept), set(_reported)
    served.clear()
    kept.clear()
    _reported.clear()
    try:
        yield
    finally:
        served[:] = before[0]
        for found, content in ((kept, before[1]), (_reported, before[2])):
            found.clear()
            found.update(content)


def caller(beyond: frozenset[str] = LIBRARIES) -> FrameType:
    """Return the frame of the program's code that makes the present call; `beyond`: the packages between."""
    frame = sys._getframe(1)
    while frame.f_back is not None and package_of(frame) in beyond:
        frame = frame.f_back
    return frame


def is_of_program(frame: FrameType) -> bool:
    """Tell whether a frame belongs to the program itself, not to an installed package or to Python's own library."""
    file = frame.f_code.co_filename
    return not ("site-packages" in file or file.startswith(("<", _STANDARD_LIBRARY)))


def package_of(frame: FrameType) -> str:
    """Return the top-level package of a frame's module."""
    return frame.f_globals.get("__name__", "").partition(".")[0]


def file_of(frame: FrameType) -> str:
    """Return a frame's file, relative to the working directory if it is inside."""
    path = Path(frame.f_code.co_filename)
    try:
        return path.resolve().relative_to(Path(os.getcwd()).resolve()).as_posix()
    except (OSError, ValueError):
        return path.as_posix()


def is_evaluator(frame: FrameType) -> bool:
    """Tell whether a frame belongs to an evaluation network, by the names of its file, class and function.

    A script that is run is none: evaluation scripts build the generator, which needs its own encoder. A function that
    helps a class of the program belongs to that class.
    """
    helped = _helped(frame)
    if helped is not None and EVALUATOR.search(helped.rpartition(".")[0]):
        return True
    name = frame.f_globals.get("__name__", "")
    if name in ("__main__", "__mp_main__"):
        return bool(EVALUATOR.search(frame.f_code.co_qualname))
    return bool(EVALUATOR.search(Path(frame.f_code.co_filename).stem) or EVALUATOR.search(frame.f_code.co_qualname))


def _helped(frame: FrameType) -> str | None:
    """Return the qualified name of the method that calls a plain function, through further plain functions."""
    found: FrameType | None = frame
    while found is not None and (package_of(found) in LIBRARIES or "." not in found.f_code.co_qualname):
        if found.f_code.co_qualname == "<module>":
            return None
        found = found.f_back
    return found.f_code.co_qualname if found is not None else None


def keeps(frame: FrameType, patterns: tuple[str, ...]) -> bool:
    """Tell whether a place keeps its own CLIP: an evaluator's, or one in a file that a pattern names."""
    file = file_of(frame)
    named = {name for name in patterns if fnmatch.fnmatch(file, name) or fnmatch.fnmatch(file, f"*/{name}")}
    kept.update(named)
    return bool(named) or is_evaluator(frame)


def serve(call: str, by: str, frame: FrameType | None = None, *, encodes: bool = True) -> None:
    """Note, and report once, that a call got AdaCLIP. `frame` None: the present caller; a tokenizer does not encode."""
    where = location(caller() if frame is None else frame)
    if encodes:
        served.append(where)
    say(f"{call} is served by AdaCLIP {by}, in {where}")


def keep(call: str, frame: FrameType) -> None:
    """Report once that a call keeps its own CLIP."""
    reason = "as an evaluator's" if is_evaluator(frame) else "as --keep says"
    say(f"{call} in {location(frame)} keeps its own CLIP, {reason}")


def location(frame: FrameType) -> str:
    """Return `file:line` of a frame."""
    return f"{file_of(frame)}:{frame.f_lineno}"


def say(message: str, once: object = None) -> None:
    """Print a line on stderr, once in a process for the same message, or for the same `once`."""
    key = message if once is None else once
    if key not in _reported:
        _reported.add(key)
        print(f"{COMMAND}: {message}", file=sys.stderr, flush=True)
