"""The networks between frames and latents or tokens as folders: config.json and model.safetensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adaclip.files import atomic_folder, read_json, write_json
from adaqf_train.config.families import AutoencoderConfig, TokenizerConfig
from adaqf_train.errors import ArtefactError
from adaqf_train.generators.latent.autoencoder import MotionAutoencoder
from adaqf_train.generators.masked.quantiser import MotionTokenizer
from adaqf_train.judges.store import CONFIG, WEIGHTS

Codec = MotionAutoencoder | MotionTokenizer


def save_codec(folder: Path, codec: Codec, features: int) -> None:
    """Writes an autoencoder or a tokenizer of motions; features: width D of what it was trained on."""
    with atomic_folder(folder) as staging:
        state = {name: value.detach().cpu().contiguous() for name, value in codec.state_dict().items()}
        save_file(state, staging / WEIGHTS)
        write_json(
            staging / CONFIG, {"kind": type(codec).__name__, "features": features, "config": asdict(codec.config)}
        )


def load_autoencoder(folder: Path) -> MotionAutoencoder:
    """The autoencoder of a folder; ArtefactError when it is incomplete or another network's."""
    return _load(folder, MotionAutoencoder, AutoencoderConfig)


def load_tokenizer(folder: Path) -> MotionTokenizer:
    """The motion tokenizer of a folder; ArtefactError when it is incomplete or another network's."""
    return _load(folder, MotionTokenizer, TokenizerConfig)


def _load(folder: Path, network: type[Codec], settings: Callable[..., object]) -> Codec:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ArtefactError(f"{folder / name}: missing. Train it again or give another run.")
    try:
        content = read_json(folder / CONFIG)
        if content["kind"] != network.__name__:
            raise ArtefactError(f"{folder / CONFIG}: holds a {content['kind']}, expected a {network.__name__}.")
        codec = network(content["features"], settings(**content["config"]))
        codec.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ArtefactError(f"{folder}: cannot be loaded ({error}). Train it again.") from error
    return codec.eval()
