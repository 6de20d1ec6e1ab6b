"""Record in checkpoints which text encoder they were trained with, and compare the record when they are loaded.

A generator works with its own encoder only, and checkpoints of the field do not name it: they leave the encoder's
weights out. The record is part of the metadata that torch keeps for every module in a state dict
(`state_dict()._metadata`), so it adds no keys and survives filters by name.
"""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from adaclip_integrations import OtherEncoderError, patches
from torch import nn

from adaclip.files import FileError, read_json, write_json
from adaclip.inference import is_of
from adaclip.model import AdaCLIP

NOTE = "adaclip_encoder.json"  # beside checkpoints, for people: file -> record
OVERRIDE = "ADACLIP_ALLOW_OTHER_ENCODER"  # environment: any value except 0 permits another encoder
TOKENS = "ADACLIP_TOKENS"  # environment: tokens kept of a prompt, instead of the script's own limit
_KEY = "adaclip"  # in the metadata of the encoder's module


def of(adaclip: AdaCLIP) -> dict[str, str]:
    """Describe an encoder with its active adapter by a hash of all weights, its base and its settings.

    The hash covers the base and the adapter separately, because the last digits of their sum depend on the device.
    """
    from adaclip import __version__

    adapter = adaclip.active_adapter
    digest = hashlib.sha256()
    settings = adaclip.text_model.peft_config[adapter]
    digest.update(f"{settings.lora_alpha} {settings.r} {settings.use_rslora}".encode())
    for name, value in sorted(adaclip.text_model.state_dict().items()):
        if "lora_" in name:
            if not is_of(name, adapter):
                continue
            name = name.replace(f".{adapter}.", ".")
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return {
        "encoder": f"sha256:{digest.hexdigest()[:32]}",
        "base": Path(adaclip.base).name if Path(adaclip.base).is_dir() else adaclip.base,
        "adaclip_version": __version__,
        "tokens": os.environ.get(TOKENS, ""),
    }


def guard(encoder: nn.Module, record: Mapping[str, str] | None) -> None:
    """Add the record to checkpoints of the model that contains `encoder`, and compare it when they are loaded.

    Copies of the module are guarded too.
    """
    if record is not None:
        encoder._register_state_dict_hook(functools.partial(_write, record))
    encoder._register_load_state_dict_pre_hook(functools.partial(_check, record))


def recorded_in(checkpoint: object, depth: int = 3) -> dict[str, str] | None:
    """Find the record in a checkpoint."""
    for metadata in (getattr(checkpoint, "_metadata", None) or {}).values():
        if isinstance(metadata, dict) and _KEY in metadata:
            return metadata[_KEY]
    parts = checkpoint.values() if depth and isinstance(checkpoint, Mapping) else ()
    found = (recorded_in(part, depth - 1) for part in parts if isinstance(part, Mapping))
    return next((record for record in found if record is not None), None)


@contextmanager
def saves_noted() -> Iterator[None]:
    """Make `torch.save` also write a checkpoint's record to `adaclip_encoder.json` beside it."""
    original = torch.save

    @functools.wraps(original)
    def save(obj, f, *args, **kwargs):
        original(obj, f, *args, **kwargs)
        name = f if isinstance(f, str | os.PathLike) else getattr(f, "name", None)
        record = recorded_in(obj)
        if record is not None and isinstance(name, str | os.PathLike):  # otherwise saved to memory
            _note(Path(name).resolve(), record)

    with patches.attribute(torch, "save", save):
        yield


@functools.cache
def note_saves() -> ExitStack:
    """Enter `saves_noted` for the rest of the process, once; codebases with edits use it."""
    entered = ExitStack()
    entered.enter_context(saves_noted())
    return entered


def _write(record: Mapping[str, str], module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    metadata[_KEY] = dict(record)


def _check(record: Mapping[str, str] | None, state: dict, prefix: str, metadata: dict, *_: object) -> None:
    theirs = metadata.get(_KEY)
    if record is not None and not metadata:
        warnings.warn(
            "This checkpoint does not record its text encoder. Make sure that it was trained with this one.",
            stacklevel=3,
        )
        return
    ours, found = record or {}, theirs or {}
    if all(found.get(name, "") == ours.get(name, "") for name in ("encoder", "tokens")):
        return
    problem = f"This checkpoint was trained with {_described(theirs)}, and now runs with {_described(record)}."
    if os.environ.get(OVERRIDE, "0") in ("", "0"):
        raise OtherEncoderError(
            f"{problem} A generator works with its own encoder only: select that one (--weights or ADACLIP_WEIGHTS), "
            f"retrain, or set {OVERRIDE}=1 to load it anyway."
        )
    warnings.warn(problem, stacklevel=3)


def _described(record: Mapping[str, str] | None) -> str:
    if record is None:
        return "CLIP or another encoder that is not AdaCLIP"
    tokens = f", {TOKENS}={record['tokens']}" if record.get("tokens") else ""
    return f"AdaCLIP {record.get('encoder', '?')[:19]} (base {record.get('base', '?')}{tokens})"


def _note(path: Path, record: Mapping[str, str]) -> None:
    # MoMask's evaluation reads every file in the folder `model` as a checkpoint, so the note lies beside that folder.
    folder = path.parent.parent if path.parent.name == "model" else path.parent
    note = folder / NOTE
    try:
        noted = read_json(note) if note.is_file() else {}
        write_json(note, noted | {path.relative_to(folder).as_posix(): dict(record)})
    except (OSError, FileError) as error:  # the checkpoint holds the record in any case
        warnings.warn(f"{note}: the encoder could not be noted there ({error}).", stacklevel=3)
