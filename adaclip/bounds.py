"""Bounds of a model's configuration: a small file must not ask for a model that fills the memory."""

from __future__ import annotations

from collections.abc import Mapping

from adaclip.config import AdaCLIPError

# Largest values, several times those of the largest text encoders; by the families' names for them.
LARGEST = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layers", "num_decoder_layers"), 500),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads"), 1024),
    **dict.fromkeys(("hidden_size", "d_model", "dim", "projection_dim", "d_kv"), 65_536),
    **dict.fromkeys(("intermediate_size", "d_ff", "hidden_dim"), 262_144),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "image_size"), 1_000_000),
    "vocab_size": 10_000_000,
}


def check_sizes(config: Mapping[str, object], where: str) -> None:
    """Raise AdaCLIPError if a size in a model's configuration, or in a part of it, is absurd."""
    for part in ({"": config} | {name: value for name, value in config.items() if isinstance(value, Mapping)}).values():
        for name, most in LARGEST.items():
            value = part.get(name)  # type: ignore[attr-defined]
            if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value <= most:
                raise AdaCLIPError(f"{where}: {name} is {value} in its configuration; at most {most:,} are read.")
