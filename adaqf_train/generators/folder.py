"""A generator's folder, here or in a repository of the Hub: config.json, model.safetensors, encoder, base and card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from adaclip import AdaCLIP
from adaclip.adapter import BASE_FILES, FILES
from adaclip.card import CardDetails
from adaclip.files import atomic_folder, check_replaceable, read_json
from adaclip.hub import LoadOptions, fetch_files
from adaclip.integrity import CHANGED, DIGESTS, sha256_of, write_digests
from adaclip.packaged import MISSING, NAME, packaged
from adaqf_train.artefacts import (
    CONFIG,
    POCKET,
    WEIGHTS,
    check_unchanged,
    read_tensors,
    reading,
    room_for,
    write_network,
)
from adaqf_train.encoders.tuning import save_text_model
from adaqf_train.errors import ArtefactError
from adaqf_train.generators import registry
from adaqf_train.generators.card import generator_card
from adaqf_train.motion.skeleton import skeleton_of_width

if TYPE_CHECKING:
    from adaqf_train.generators.base import MotionGenerator

ENCODER, BASE, CARD = "encoder", "base", "README.md"
GENERATOR = POCKET / "generator"
PACKAGED = "../../../adaclip/pocket"  # the encoder of the packaged generator, from its folder
# Folders written before families had one format: MDM's alone, without a `family` key, and with these in the place of
# model.safetensors.
FIRST_FAMILY, DENOISER, STATISTICS = "mdm", "denoiser.safetensors", "statistics.safetensors"
ADVICE = "Give the folder of a complete generator, such as RUN/adaqf."
Generator = TypeVar("Generator", bound="MotionGenerator")


def save(folder: Path, generator: MotionGenerator, details: CardDetails | None, repo_id: str | None = None) -> Path:
    """Writes the folder, whole or not at all, in the place of an earlier save and of nothing else.

    A base that is a local folder is copied along; one of the Hub is not. With a base of its own, base/ holds the
    trained text model and encoder/ an adapter that changes nothing.
    """
    folder = folder.expanduser()
    known = {CONFIG, WEIGHTS, DENOISER, STATISTICS, ENCODER, BASE, CARD, DIGESTS}
    check_replaceable(folder, known, {ENCODER, DENOISER, STATISTICS}, "a generator")
    encoder = generator.encoder
    details = details or encoder.details
    with atomic_folder(folder) as staging:
        base = encoder.base
        if generator.own_base:
            base = staging / BASE
            save_text_model(base, encoder)
        elif Path(base).is_dir():
            base = shutil.copytree(base, staging / BASE)
        elif Path(base).is_file():
            base = encoder.copy_base(Path(base), staging / BASE)
        encoder.save_pretrained(staging / ENCODER, base=base, details=details)
        write_network(staging, generator, _config(generator))
        (staging / CARD).write_text(generator_card(generator, details, repo_id), encoding="utf-8")
        write_digests(staging)
    return folder


def save_packaged(folder: Path, generator: MotionGenerator, encoder: Path) -> None:
    """Writes a generator of the packaged models; encoder: the folder that lies at PACKAGED from it.

    Parameters are written in half precision; `load` computes in single precision.
    """
    shared = {"folder": PACKAGED, "sha256": sha256_of(encoder / DIGESTS)}
    with atomic_folder(folder) as staging:
        write_network(staging, generator, _config(generator) | {ENCODER: shared}, half=True)
        write_digests(staging)


def _config(generator: MotionGenerator) -> dict[str, object]:
    return {
        "family": generator.family,
        "features": len(generator.mean),
        "unit_frames": generator.unit_frames,
        "max_frames": generator.max_frames,
        **generator.settings(),
    }


def load(kind: type[Generator], folder_or_repo: str | Path, options: LoadOptions) -> Generator:
    """The generator of a folder or a repository; ArtefactError unless it is complete, and of a family of `kind`."""
    folder = _resolve(str(folder_or_repo), options)
    with reading(folder, (CONFIG,), ADVICE):
        config = read_json(folder / CONFIG)
        family = registry.family(config.get("family", FIRST_FAMILY))
    if not issubclass(family.generator, kind):
        raise ArtefactError(f"{folder / CONFIG}: a {family.name} generator, expected {kind.family}.")
    files = (WEIGHTS,) if "family" in config else (DENOISER, STATISTICS)
    with reading(folder, files, ADVICE):
        encoder = AdaCLIP.from_pretrained(_encoder(folder, config), **vars(options.for_base()))
        blank = torch.ones(skeleton_of_width(config["features"]).features)
        tensors = _state(folder, files)
        with room_for(tensors):
            generator = family.generator.build(encoder, blank.clone(), blank, config)
        generator.unit_frames = config.get("unit_frames", generator.unit_frames)
        generator.max_frames = config.get("max_frames", generator.max_frames)
        generator.load_state_dict(tensors)
        _check(generator)
    check_unchanged(folder, CHANGED)
    for network in generator.children():
        network.to(dtype=options.dtype)  # the statistics stay in float32
    return generator.eval().to(options.device or "cpu")


def _encoder(folder: Path, config: dict) -> Path:
    """The folder of a generator's encoder; ArtefactError if a packaged one is not that of the training."""
    shared = config.get(ENCODER)
    if shared is None:
        return folder / ENCODER
    place = (folder / PACKAGED).resolve()
    if (
        shared["folder"] != PACKAGED
        or not (place / DIGESTS).is_file()
        or sha256_of(place / DIGESTS) != shared["sha256"]
    ):
        raise ArtefactError(f"{folder / CONFIG}: its encoder is not the one at {place}. {MISSING}")
    return place


def _state(folder: Path, files: tuple[str, ...]) -> dict[str, Tensor]:
    if files == (WEIGHTS,):
        return read_tensors(folder / WEIGHTS)
    denoiser = {f"denoiser.{name}": value for name, value in read_tensors(folder / DENOISER).items()}
    return denoiser | read_tensors(folder / STATISTICS)


def _resolve(folder_or_repo: str, options: LoadOptions) -> Path:
    folder = packaged(folder_or_repo, GENERATOR) or Path(folder_or_repo).expanduser()
    if not folder.is_dir():
        if folder == GENERATOR:
            raise ArtefactError(f"{folder}: missing. {MISSING}")
        if folder.exists() or folder_or_repo.startswith((".", "/", "~")) or folder_or_repo.count("/") != 1:
            raise ArtefactError(
                f"{folder_or_repo}: no such folder. Give a generator's, such as RUN/adaqf, a Hub id or {NAME}."
            )
        patterns = [CONFIG, WEIGHTS, DENOISER, STATISTICS, DIGESTS, *(f"{ENCODER}/{name}" for name in FILES)]
        patterns += [f"{BASE}/{name}" for name in BASE_FILES]
        inside = f"{options.subfolder.strip('/')}/" if options.subfolder else ""
        folder = fetch_files(folder_or_repo, [inside + name for name in patterns], options, what="generator")
    return folder / options.subfolder


def _check(generator: MotionGenerator) -> None:
    """ValueError for numbers that no generator could have."""
    unit, longest = generator.unit_frames, generator.max_frames
    if not (isinstance(unit, int) and isinstance(longest, int) and 0 < unit < longest) or unit % generator.group:
        raise ValueError(f"unit_frames {unit!r} and max_frames {longest!r} do not fit together")
    if not (generator.std > 0).all():
        raise ValueError("std must be positive")
    for name, value in generator.state_dict().items():
        if not value.float().isfinite().all():
            raise ValueError(f"tensor {name} holds NaN or infinity")
