"""Conversion of CLIP's weights between OpenAI's and Hugging Face's names: pure functions on state dicts, exact.

Names: `clip/model.py` of openai/CLIP and `modeling_clip.py` of transformers (CLIPModel, CLIPTextModelWithProjection).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from adaclip.config import AdaCLIPError

# Parts of a layer, each with weight and bias. OpenAI stacks query, key and value in one tensor.
_LAYER = (
    (("layer_norm1.",), "ln_1."),
    (("layer_norm2.",), "ln_2."),
    (("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."), "attn.in_proj_"),
    (("self_attn.out_proj.",), "attn.out_proj."),
    (("mlp.fc1.",), "mlp.c_fc."),
    (("mlp.fc2.",), "mlp.c_proj."),
)


@dataclass(frozen=True)
class _Tower:
    """Names of one tower's tensors on both sides."""

    layers: tuple[str, str]  # Hugging Face's and OpenAI's prefix of layer i, before the number
    projection: tuple[str, str]  # Hugging Face keeps an nn.Linear weight, OpenAI its transpose
    names: tuple[tuple[str, str], ...]  # everything that is only renamed

    def tensors(self, state: Mapping[str, Tensor], source: int) -> Iterator[tuple[list[str], str]]:
        """Yield Hugging Face's names (several for a stack) and OpenAI's name of each tensor."""
        for hf, openai in (*self.names, self.projection):
            yield [hf], openai
        layer = re.compile(re.escape(self.layers[source]) + r"(\d+)\.")
        numbers = [int(match[1]) for match in map(layer.match, state) if match]
        for i in range(1 + max(numbers, default=-1)):
            for parts, openai in _LAYER:
                for kind in ("weight", "bias"):
                    hf = [f"{self.layers[_HF]}{i}.{part}{kind}" for part in parts]
                    yield hf, f"{self.layers[_OPENAI]}{i}.{openai}{kind}"


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
    whose = ("Hugging Face's", "OpenAI's")[source]
    converted: dict[str, Tensor] = {}

    def take(name: str) -> Tensor:
        if name not in left:
            raise AdaCLIPError(f"Tensor {name} of {whose} CLIP is missing: convert a complete state dict.")
        return left.pop(name)

    for tower in (TEXT, VISION):
        tensors = list(tower.tensors(left, source))
        if tower is VISION and left.keys().isdisjoint(name for hf, openai in tensors for name in (*hf, openai)):
            continue  # a text model
        for hf, openai in tensors:
            value = torch.cat([take(name) for name in hf]) if source == _HF else take(openai)
            value = value.t() if openai == tower.projection[_OPENAI] else value
            names = [openai] if source == _HF else hf
            for name, part in zip(names, value.chunk(len(names)), strict=True):
                converted[name] = part.clone(memory_format=torch.contiguous_format)
    if "logit_scale" in left:
        converted["logit_scale"] = left.pop("logit_scale").clone()
    if left:
        raise AdaCLIPError(
            f"{len(left)} tensors are not {whose} CLIP's (first: {min(left)}): convert the state dict of a whole CLIP "
            "model or text model with projection, adapters merged."
        )
    return converted
