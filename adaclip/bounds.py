"""Bounds of a model's configuration: a small file must not ask for a model that fills the memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adaclip.config import AdaCLIPError
from adaclip.files import read_json

# Largest values, several times those of the largest text encoders; by the families' names for them.
LARGEST = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layers", "num_decoder_layers"), 500),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads"), 1024),
    **dict.fromkeys(("hidden_size", "d_model", "dim", "projection_dim", "d_kv"), 65_536),
    **dict.fromkeys(("intermediate_size", "d_ff", "hidden_dim"), 262_144),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "image_size"), 1_000_000),
    "vocab_size": 10_000_000,
}
WEIGHTS = "model.safetensors"
SLACK = 5  # times the weights: folders of text towers keep the configuration of a vision tower that they lack
SMALL = 10_000_000  # numbers


def check_sizes(config: Mapping[str, object], where: str) -> None:
    """Raise AdaCLIPError if a size in a model's configuration, or in a part of it, is absurd."""
    for part in _parts(config):
        for name, most in LARGEST.items():
            value = part.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value <= most:
                raise AdaCLIPError(f"{where}: {name} is {value} in its configuration; at most {most:,} are read.")


def check_base_folder(folder: Path) -> None:
    """Raise AdaCLIPError if a model's folder describes far more numbers than its weights hold."""
    config, weights = folder / "config.json", folder / WEIGHTS
    if not config.is_file() or not weights.is_file():
        return  # its reader says so, and weights in several files are not bounded
    content = read_json(config)
    check_sizes(content, str(folder))
    described, held = max(map(_numbers, _parts(content))), weights.stat().st_size  # one byte a number or more
    if described > SLACK * held + SMALL:
        raise AdaCLIPError(
            f"{config}: describes {described:,.0f} numbers or more, and {WEIGHTS} has only {held:,} bytes. Download or "
            "save both again."
        )


def check_tokenizer_folder(folder: Path) -> None:
    """Raise AdaCLIPError for files of a tokenizer that are no JSON, or that ask for gigabytes."""
    most = LARGEST["vocab_size"]
    if (folder / "tokenizer.json").is_file():
        content = read_json(folder / "tokenizer.json")
        model, added = content.get("model"), content.get("added_tokens")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
        ids += [token.get("id") for token in added if isinstance(token, dict)] if isinstance(added, list) else []
        highest = max((value for value in ids if isinstance(value, int)), default=0)
        if highest > most:
            raise AdaCLIPError(f"{folder / 'tokenizer.json'}: has the id {highest:,}; at most {most:,} are read.")
    if (folder / "tokenizer_config.json").is_file():
        length = read_json(folder / "tokenizer_config.json").get("model_max_length")
        if length is not None and not (isinstance(length, int | float) and length >= 1):
            raise AdaCLIPError(
                f"{folder / 'tokenizer_config.json'}: model_max_length is {length!r:.40}, expected a number of tokens."
            )


def _numbers(part: Mapping[str, object]) -> float:
    """The fewest numbers in a model of these sizes."""

    def size(*names: str) -> float:
        return next((value for name in names if isinstance(value := part.get(name), int | float)), 0)

    layers, inner = size("num_hidden_layers", "num_layers", "n_layers"), size("intermediate_size", "d_ff", "hidden_dim")
    rows = size("vocab_size") + size("max_position_embeddings")
    return size("hidden_size", "d_model", "dim") * (rows + layers * inner)


def _parts(config: Mapping[str, object]) -> list[Mapping[str, object]]:
    """A model's configuration, and those of its towers."""
    return [config, *(value for value in config.values() if isinstance(value, Mapping))]
