"""Which text encoder a checkpoint was trained with: recorded in it, noted beside it, and compared when it is loaded.

A generator is worthless with another encoder than its own, and nothing in the field's checkpoints says which that was:
they leave the encoder's weights out. The record travels in the checkpoint's state dict, in the metadata that torch
keeps there for every module (`state_dict()._metadata`), so it adds no keys and survives their filters by name.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from adaclip.config import AdaCLIPError
from adaclip.files import FileError, read_json, write_json
from adaclip.inference import is_of

if TYPE_CHECKING:
    from adaclip.model import AdaCLIP

NOTE = "adaclip_encoder.json"  # beside checkpoints: file -> record, for people
OVERRIDE = "ADACLIP_ALLOW_OTHER_ENCODER"  # environment: any value but 0 lets a checkpoint load under another encoder
TOKENS = "ADACLIP_TOKENS"  # environment: tokens kept of a prompt, instead of the script's own limit
_KEY = "adaclip"  # in the metadata of the encoder's module


def of(adaclip: AdaCLIP) -> dict[str, str]:
    """The record of an encoder with its active adapter: a hash of every weight, and what a person would call it.

    The hash is of the base and the adapter, not of their sum, whose last digits depend on the device it was made on.
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
    """Makes checkpoints of the model that `encoder` is a part of carry its record, and only load under the same.

    record: from `of`; None for an encoder that is not AdaCLIP: nothing is recorded, and what was trained with AdaCLIP
    is refused. Copies of the module are guarded too.
    """
    if record is not None:
        encoder._register_state_dict_hook(_Writer(dict(record)))
    encoder._register_load_state_dict_pre_hook(_Checker(record and dict(record)))


def recorded_in(checkpoint: object, depth: int = 3) -> dict[str, str] | None:
    """The record in a state dict or in a dict that holds one, as `torch.load` returned it; None if there is none."""
    for metadata in (getattr(checkpoint, "_metadata", None) or {}).values():
        if isinstance(metadata, dict) and _KEY in metadata:
            return metadata[_KEY]
    if depth and isinstance(checkpoint, Mapping):
        for value in checkpoint.values():
            record = recorded_in(value, depth - 1) if isinstance(value, Mapping) else None
            if record is not None:
                return record
    return None


@contextmanager
def saves_noted() -> Iterator[None]:
    """Inside, `torch.save` of a checkpoint that carries a record also notes it in `adaclip_encoder.json` beside it."""
    original = torch.save

    def save(obj, f, *args, **kwargs):
        original(obj, f, *args, **kwargs)
        record = recorded_in(obj)
        if record is not None:
            _note(f, record)

    save.__doc__ = original.__doc__
    torch.save = save
    try:
        yield
    finally:
        if torch.save is save:
            torch.save = original


_noting = None


def note_saves() -> None:
    """`saves_noted` for the rest of the process, however often it is called: the way in of patched codebases."""
    global _noting
    if _noting is None:
        _noting = saves_noted()
        _noting.__enter__()


@dataclass(frozen=True)
class _Writer:
    record: dict[str, str]

    def __call__(self, module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
        metadata[_KEY] = self.record


@dataclass(frozen=True)
class _Checker:
    record: dict[str, str] | None

    def __call__(self, state: dict, prefix: str, metadata: dict, *_: object) -> None:
        theirs = metadata.get(_KEY)
        if self.record is None and theirs is None:
            return
        if self.record is not None and not metadata:
            warnings.warn(
                "This checkpoint does not say which text encoder it was trained with: make sure that it was this one.",
                stacklevel=2,
            )
            return
        if theirs is None or self.record is None or _different(theirs, self.record):
            problem = (
                f"This checkpoint was trained with {_described(theirs)}, and now runs with {_described(self.record)}."
            )
            if os.environ.get(OVERRIDE, "0") in ("", "0"):
                raise AdaCLIPError(
                    f"{problem} A generator works with its own encoder only: select that one (--weights or "
                    f"ADACLIP_WEIGHTS), retrain, or set {OVERRIDE}=1 to load it all the same."
                )
            warnings.warn(problem, stacklevel=2)


def _different(theirs: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    return any(theirs.get(name, "") != ours.get(name, "") for name in ("encoder", "tokens"))


def _described(record: Mapping[str, str] | None) -> str:
    if record is None:
        return "CLIP or another encoder that is not AdaCLIP"
    tokens = f", {TOKENS}={record['tokens']}" if record.get("tokens") else ""
    return f"AdaCLIP {record.get('encoder', '?')[:19]} (base {record.get('base', '?')}{tokens})"


def _note(f: object, record: Mapping[str, str]) -> None:
    name = f if isinstance(f, str | os.PathLike) else getattr(f, "name", None)
    if not isinstance(name, str | os.PathLike):
        return  # saved to memory
    path = Path(name).resolve()
    # MoMask's evaluation takes every file in the folder `model` for a checkpoint: the note goes beside that folder.
    folder = path.parent.parent if path.parent.name == "model" else path.parent
    note = folder / NOTE
    try:
        noted = read_json(note) if note.is_file() else {}
        write_json(note, noted | {path.relative_to(folder).as_posix(): dict(record)})
    except (OSError, FileError) as error:  # the record in the checkpoint is what counts
        warnings.warn(f"{note}: the encoder could not be noted there ({error}).", stacklevel=3)
