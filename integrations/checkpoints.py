"""Records of the text encoder in what a process saves and loads, also where the encoder is no part of the model.

MDM, MoMask and SALAD keep the encoder inside the model, which therefore carries its record (`fingerprint.guard`). In
T2M-GPT and MMM it is a global of the scripts, and code that filters a state dict by a comprehension loses torch's
metadata. There, the record of the process's encoder is added while a checkpoint is saved, to every state dict that has
none, and compared while one is loaded.
"""

from __future__ import annotations

import atexit
import functools
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from adaclip_integrations import fingerprint, patches, places
from adaclip_integrations.fingerprint import KEY, NOTE
from torch import nn

from adaclip.files import FileError, read_json, write_json

Record = Mapping[str, str]


class _Process:
    """The encoder of this process."""

    used: bool = False  # it encodes text for some model
    record: Callable[[], Record | None] | None = None  # None: unknown so far; a result of None: not AdaCLIP
    waiting: tuple[Record, ...] = ()  # records of checkpoints that were loaded before the encoder


_process = _Process()


def declare(record: Record | None) -> None:
    """State which encoder this process uses, None for the codebase's own; compare what was loaded before."""
    _process.used, _process.record = True, lambda: record
    waiting, _process.waiting = _process.waiting, ()
    for theirs in waiting:
        fingerprint.compare(theirs, record)


@contextmanager
def recorded(record: Callable[[], Record | None] | None = None) -> Iterator[None]:
    """Make `torch.save` and `load_state_dict` record and compare the encoder, and note it beside checkpoints.

    `record` gives the encoder that this process is going to use, if that is known.
    """
    before = dict(vars(_process))
    vars(_process).clear()
    _process.record = record
    try:
        with ExitStack() as undo:
            undo.enter_context(patches.attribute(torch, "save", _saving(torch.save)))
            undo.enter_context(patches.attribute(nn.Module, "load_state_dict", _loading(nn.Module.load_state_dict)))
            yield
    finally:
        vars(_process).clear()
        vars(_process).update(before)


@functools.cache
def record_always() -> ExitStack:
    """Enter `recorded` for the rest of the process, once; codebases with edits use it."""
    entered = ExitStack()
    entered.enter_context(recorded())
    atexit.register(entered.close)
    return entered


def _saving(original: Callable) -> Callable:
    @functools.wraps(original)
    def save(obj, f, *args, **kwargs):
        ours = _process.record() if _process.used and _process.record is not None else None
        if ours is not None:
            obj = _with_record(obj, ours)
        original(obj, f, *args, **kwargs)
        name = f if isinstance(f, str | os.PathLike) else getattr(f, "name", None)
        found = fingerprint.recorded_in(obj)
        if found is not None and isinstance(name, str | os.PathLike):  # otherwise saved to memory
            _note(Path(name).resolve(), found)

    return save


def _loading(original: Callable) -> Callable:
    @functools.wraps(original)
    def load_state_dict(module, state_dict, *args, **kwargs):
        theirs = ((getattr(state_dict, "_metadata", None) or {}).get("") or {}).get(KEY)
        if theirs is None:
            if not fingerprint.is_compared():
                _warn_if_unrecorded(module, state_dict)
            return original(module, state_dict, *args, **kwargs)
        inside = list(fingerprint.guards_in(module))
        if not inside and _process.record is None:
            _process.waiting = (*_process.waiting, theirs)
        elif not inside:
            inside = [_process.record()]
        for ours in inside:
            fingerprint.compare(theirs, ours)
        with fingerprint.compared():
            return original(module, state_dict, *args, **kwargs)

    return load_state_dict


def _warn_if_unrecorded(module: nn.Module, state_dict: object) -> None:
    """Warn of a part whose checkpoint has no record, if AdaCLIP is used outside of it."""
    ours = _process.record() if _process.used and _process.record is not None else None
    if ours is None or fingerprint.recorded_in(state_dict) is not None or any(fingerprint.guards_in(module)):
        return
    frame = places.caller()
    if places.package_of(frame) not in places.ADAPTERS and not places.is_evaluator(frame):
        warnings.warn(
            f"The checkpoint of {type(module).__name__} does not record a text encoder. If this part reads text, make "
            "sure that it was trained with this one.",
            stacklevel=3,
        )


def _with_record(saved: object, record: Record, depth: int = 3) -> object:
    """Return what is saved with the record in each state dict that has none. The caller's objects do not change."""
    if not isinstance(saved, dict):
        return saved
    if _is_state_dict(saved):
        if fingerprint.recorded_in(saved) is not None:
            return saved
        state = OrderedDict(saved)
        metadata = OrderedDict(getattr(saved, "_metadata", None) or {})
        metadata[""] = {**(metadata.get("") or {}), KEY: dict(record)}
        state._metadata = metadata  # type: ignore[attr-defined]
        return state
    changed = {key: _with_record(value, record, depth - 1) for key, value in saved.items()} if depth else saved
    if all(changed[key] is value for key, value in saved.items()):
        return saved
    return OrderedDict(changed) if isinstance(saved, OrderedDict) else changed


def _is_state_dict(saved: Mapping) -> bool:
    if hasattr(saved, "_metadata"):
        return True
    names = all(isinstance(key, str) for key in saved) and any("." in key for key in saved)
    return names and any(isinstance(value, torch.Tensor) for value in saved.values())


def _note(path: Path, record: Record) -> None:
    # MoMask's evaluation reads every file in the folder `model` as a checkpoint, so the note lies beside that folder.
    folder = path.parent.parent if path.parent.name == "model" else path.parent
    note = folder / NOTE
    try:
        noted = read_json(note) if note.is_file() else {}
        write_json(note, noted | {path.relative_to(folder).as_posix(): dict(record)})
    except (OSError, FileError) as error:  # the checkpoint holds the record in any case
        warnings.warn(f"{note}: the encoder could not be noted there ({error}).", stacklevel=3)
