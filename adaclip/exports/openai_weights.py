"""Conversion of CLIP's weights between OpenAI's and Hugging Face's names: pure functions on state dicts, exact."""

# Names: `clip/model.py` of openai/CLIP and `modeling_clip.py` of transformers (CLIPModel, CLIPTextModelWithProjection).

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adaclip.config import AdaCLIPError


@dataclass(frozen=True)
class _Tower:
    """Names of one tower's tensors on both sides."""

    layers: tuple[str, str]  # Hugging Face's and OpenAI's prefix of layer i, before the number
    projection: tuple[str, str]  # Hugging Face keeps an nn.Linear weight, OpenAI its transpose
    names: tuple[tuple[str, str], ...]  # everything that is only renamed

    def present(self, state: Mapping[str, Tensor], side: int) -> bool:
        return any(self.owns(name, side) for name in state)

    def owns(self, name: str, side: int) -> bool:
        return name.startswith(self.layers[side]) or name in {pair[side] for pair in (*self.names, self.projection)}


TEXT = _Tower(
    layers=("text_model.encoder.layers.", "transformer.resblocks."),
    projection=("text_projection.weight", "text_projection"),
    names=(
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("text_model.final_layer_norm.weight", "ln_final.weight"),
        ("text_model.final_layer_norm.bias", "ln_final.bias"),
    ),
)

VISION = _Tower(
    layers=("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    projection=("visual_projection.weight", "visual.proj"),
    names=(
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"),  # sic: transformers' spelling
        ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"),
        ("vision_model.post_layernorm.weight", "visual.ln_post.weight"),
        ("vision_model.post_layernorm.bias", "visual.ln_post.bias"),
    ),
)

# Parts of a layer, each with weight and bias. OpenAI stacks query, key and value in one tensor.
_LAYER = (
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("self_attn.out_proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

# Not weights: indices that old transformers stored, sizes that OpenAI's archives store.
_DERIVED = re.compile(r".*\.position_ids|input_resolution|context_length|vocab_size")
_HF, _OPENAI = 0, 1


def to_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a Hugging Face state dict to OpenAI's names."""
    return _convert(state, _HF)


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an OpenAI state dict to Hugging Face's names; the inverse of `to_openai`."""
    if any(name.startswith("visual.layer1.") for name in state):
        raise AdaCLIPError(
            "These OpenAI weights have a ResNet as vision tower, which transformers' CLIP lacks. "
            "Use a ViT, or remove the tensors whose names start with visual."
        )
    return _convert(state, _OPENAI)


def _convert(state: Mapping[str, Tensor], source: int) -> dict[str, Tensor]:
    left = {name: value for name, value in state.items() if not _DERIVED.fullmatch(name)}
    converted = {}
    for tower in (TEXT, VISION):
        if tower is TEXT or tower.present(left, source):
            converted |= _convert_tower(left, tower, source)
    if "logit_scale" in left:
        converted["logit_scale"] = left.pop("logit_scale").clone()
    if left:
        raise AdaCLIPError(
            f"{len(left)} tensors are not {_whose(source)} CLIP's (first: {min(left)}): convert the state dict of a "
            "whole CLIP model or text model with projection, adapters merged."
        )
    return converted


def _convert_tower(left: dict[str, Tensor], tower: _Tower, source: int) -> dict[str, Tensor]:
    """Move one tower's tensors out of `left`, under their new names."""
    target = 1 - source
    converted = {pair[target]: _take(left, pair[source], source).clone() for pair in tower.names}
    projection = _take(left, tower.projection[source], source)
    converted[tower.projection[target]] = projection.t().clone(memory_format=torch.contiguous_format)
    for i in _layer_numbers(left, tower.layers[source]):
        old, new = f"{tower.layers[source]}{i}.", f"{tower.layers[target]}{i}."
        for kind in ("weight", "bias"):
            for pair in _LAYER:
                converted[f"{new}{pair[target]}.{kind}"] = _take(left, f"{old}{pair[source]}.{kind}", source).clone()
            if source == _HF:
                parts = [_take(left, f"{old}{name}.{kind}", source) for name in _QKV]
                converted[f"{new}attn.in_proj_{kind}"] = torch.cat(parts)
            else:
                stacked = _take(left, f"{old}attn.in_proj_{kind}", source)
                for name, part in zip(_QKV, stacked.chunk(3), strict=True):
                    converted[f"{new}{name}.{kind}"] = part.clone()
    return converted


def _layer_numbers(names: Iterable[str], prefix: str) -> list[int]:
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)}
    return list(range(1 + max((int(number) for number in numbers if number.isdigit()), default=-1)))


def _take(left: dict[str, Tensor], name: str, source: int) -> Tensor:
    if name not in left:
        raise AdaCLIPError(f"Tensor {name} of {_whose(source)} CLIP is missing: convert a complete state dict.")
    return left.pop(name)


def _whose(side: int) -> str:
    return ("Hugging Face's", "OpenAI's")[side]
