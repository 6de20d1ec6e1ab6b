"""All networks of a run with random weights: nothing has to be downloaded to know their sizes and their speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from adaclip import AdaCLIP, hub
from adaclip.adapter import new_adapter
from adaclip.config import LoRASettings
from adaqf_train.config import POCKET_BASE, RunConfig
from adaqf_train.encoders import pocket_clip
from adaqf_train.errors import ConfigError
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.denoiser import Denoiser
from adaqf_train.generators.mdm.generator import build_denoiser
from adaqf_train.judges.extractors import Extractors
from adaqf_train.judges.matcher import Matcher

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

VOCABULARY = 49_408  # of all of OpenAI's CLIPs
# width, heads and projection of the text towers, as in the config.json of each repository (text_config); all have 12
# layers, four times the width in between, and quick GELU.
TEXT_TOWERS = {
    "openai/clip-vit-base-patch32": (512, 8, 512),
    "openai/clip-vit-base-patch16": (512, 8, 512),
    "openai/clip-vit-large-patch14": (768, 12, 768),
    "openai/clip-vit-large-patch14-336": (768, 12, 768),
}


@dataclass(frozen=True)
class Networks:
    """What a run trains and uses."""

    encoder: AdaCLIP
    denoiser: Denoiser
    diffusion: Diffusion
    extractors: Extractors
    evaluator: Matcher


def build(config: RunConfig, features: int, tokenizer: CLIPTokenizer) -> Networks:
    """The networks of a configuration for features of that width; the encoder reads with the given tokenizer."""
    with torch.device("cpu"):  # networks may be built on the meta device to be counted; a schedule is numbers
        diffusion = Diffusion(config.diffusion)
    text_model = _text_model(config, tokenizer)
    settings = LoRASettings(config.encoder.rank, config.encoder.alpha, config.encoder.dropout, config.encoder.modules)
    encoder = AdaCLIP(new_adapter(text_model, settings), tokenizer, config.encoder.base)
    words = encoder.text_model.get_input_embeddings().weight
    extractors = Extractors(features, *words.shape, config.extractors)
    extractors.text.set_words(words.detach())
    return Networks(
        encoder,
        build_denoiser(encoder, features, config.denoiser, config.diffusion.steps),
        diffusion,
        extractors,
        Matcher(features, len(words), config.evaluator),
    )


def parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """How many there are; trainable: only those that learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def _text_model(config: RunConfig, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    base = config.encoder.base
    if base == POCKET_BASE:
        return pocket_clip.build(tokenizer, config.pocket_clip)
    if Path(base).is_dir():
        return hub.load_base(base, hub.LoadOptions(dtype=torch.float32))[0]
    if base not in TEXT_TOWERS:
        raise ConfigError(
            f"encoder.base={base}: plan does not know its size. Give the folder of a copy, or one of "
            f"{', '.join(TEXT_TOWERS)}."
        )
    width, heads, projection = TEXT_TOWERS[base]
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=projection,
            num_hidden_layers=12,
            num_attention_heads=heads,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
