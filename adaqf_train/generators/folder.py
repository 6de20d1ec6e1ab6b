"""A generator's folder: adapter, denoiser, statistics and configuration, here or in a repository of the Hub."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaclip.adapter import BASE_FILES, FILES, first_line
from adaclip.card import CardDetails
from adaclip.files import atomic_folder, check_replaceable, read_json, write_json
from adaclip.hub import LoadOptions, fetch_files
from adaqf_train.config import DenoiserConfig, DiffusionConfig, SamplingConfig
from adaqf_train.errors import ArtefactError
from adaqf_train.generators.card import generator_card
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.denoiser import Denoiser
from adaqf_train.judges.store import save_clip
from adaqf_train.motion.skeleton import skeleton_of_width

CONFIG, DENOISER, STATISTICS = "config.json", "denoiser.safetensors", "statistics.safetensors"
ENCODER, BASE, CARD = "encoder", "base", "README.md"


@dataclass(frozen=True)
class GeneratorParts:
    """What a generator is made of; the arguments of `MotionGenerator`."""

    encoder: AdaCLIP
    denoiser: Denoiser
    diffusion: Diffusion
    mean: Tensor  # (D,) statistics of the features the denoiser was trained on
    std: Tensor
    sampling: SamplingConfig
    unit_frames: int
    max_frames: int
    own_base: bool = False  # the encoder's base was trained too: it is saved, not copied


def build_denoiser(encoder: AdaCLIP, features: int, config: DenoiserConfig, timesteps: int) -> Denoiser:
    """An untrained denoiser that reads that encoder's features."""
    width = encoder.projection_size if config.conditioning == "pooled" else encoder.hidden_size
    return Denoiser(features, width, config, timesteps, encoder.projection_size)


def save(folder: Path, parts: GeneratorParts, details: CardDetails | None, name: str | None = None) -> Path:
    """Writes the folder, whole or not at all, in the place of an earlier save and of nothing else.

    A base that is a local folder is copied along, one of the Hub stays there. With a base of its own, base/ holds the
    trained text model and encoder/ an adapter that changes nothing. name: where the card says the generator can be
    loaded from.
    """
    folder = folder.expanduser()
    known = {CONFIG, DENOISER, STATISTICS, ENCODER, BASE, CARD}
    check_replaceable(folder, known, {DENOISER, STATISTICS}, "a generator")
    details = details or parts.encoder.details
    with atomic_folder(folder) as staging:
        base = parts.encoder.base
        if parts.own_base:
            base = staging / BASE
            save_clip(base, parts.encoder.merged(), parts.encoder.tokenizer)
        elif Path(base).is_dir():
            base = shutil.copytree(base, staging / BASE)
        parts.encoder.save_pretrained(staging / ENCODER, base=base, details=details)
        save_file(_state(parts.denoiser), staging / DENOISER)
        save_file({"mean": parts.mean, "std": parts.std}, staging / STATISTICS)
        config = {
            "features": len(parts.mean),
            "unit_frames": parts.unit_frames,
            "max_frames": parts.max_frames,
            "denoiser": asdict(parts.denoiser.config),
            "diffusion": asdict(parts.diffusion.config),
            "sampling": asdict(parts.sampling),
        }
        write_json(staging / CONFIG, config)
        card = generator_card(config, str(parts.encoder.base), details, name)
        (staging / CARD).write_text(card, encoding="utf-8")
    return folder


def load(folder_or_repo: str | Path, options: LoadOptions) -> GeneratorParts:
    """A generator's parts, every tensor of them; ArtefactError names the file that is missing or does not fit."""
    folder = _resolve(str(folder_or_repo), options)
    for name in (CONFIG, DENOISER, STATISTICS):
        if not (folder / name).is_file():
            raise ArtefactError(f"{folder / name}: missing. Give the folder of a generator, such as RUN/adaqf.")
    encoder = AdaCLIP.from_pretrained(folder / ENCODER, **vars(options.for_base()))
    try:
        config = read_json(folder / CONFIG)
        statistics = load_file(folder / STATISTICS)
        diffusion = Diffusion(DiffusionConfig(**config["diffusion"]))
        denoiser = build_denoiser(
            encoder, config["features"], DenoiserConfig(**config["denoiser"]), diffusion.config.steps
        )
        denoiser.load_state_dict(load_file(folder / DENOISER))
        parts = GeneratorParts(
            encoder,
            denoiser,
            diffusion,
            statistics["mean"],
            statistics["std"],
            SamplingConfig(**config["sampling"]),
            config["unit_frames"],
            config["max_frames"],
        )
        _check(parts, config["features"])
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
        raise ArtefactError(f"{folder}: not a complete generator ({what}). Train or copy it again.") from error
    denoiser.to(device=options.device, dtype=options.dtype)
    return parts


def _resolve(folder_or_repo: str, options: LoadOptions) -> Path:
    folder = Path(folder_or_repo).expanduser()
    if not folder.is_dir():
        if folder.exists() or folder_or_repo.startswith((".", "/", "~")) or folder_or_repo.count("/") != 1:
            raise ArtefactError(
                f"{folder_or_repo}: no such folder. Give a generator's, such as RUN/adaqf, or a Hub id."
            )
        patterns = [CONFIG, DENOISER, STATISTICS, *(f"{ENCODER}/{name}" for name in FILES)]
        patterns += [f"{BASE}/{name}" for name in BASE_FILES]
        inside = f"{options.subfolder.strip('/')}/" if options.subfolder else ""
        folder = fetch_files(folder_or_repo, [inside + name for name in patterns], options, what="generator")
    return folder / options.subfolder


def _check(parts: GeneratorParts, features: int) -> None:
    """ValueError for numbers that no generator could have."""
    skeleton_of_width(features)
    for name, value in (("mean", parts.mean), ("std", parts.std)):
        if value.shape != (features,) or not value.isfinite().all():
            raise ValueError(f"{STATISTICS}: {name} must be {features} finite numbers")
    if not (parts.std > 0).all():
        raise ValueError(f"{STATISTICS}: std must be positive")
    unit, longest, group = parts.unit_frames, parts.max_frames, parts.denoiser.config.frames_per_token
    if not (isinstance(unit, int) and isinstance(longest, int) and 0 < unit < longest) or unit % group:
        raise ValueError(f"{CONFIG}: unit_frames {unit!r} and max_frames {longest!r} do not fit together")
    for name, value in parts.denoiser.state_dict().items():
        if not math.isfinite(value.float().abs().max()):
            raise ValueError(f"{DENOISER}: tensor {name} holds NaN or infinity")


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
