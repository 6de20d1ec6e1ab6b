"""Generators of every family, of a few thousand random parameters."""

from __future__ import annotations

from pathlib import Path

import torch

from adaclip import AdaCLIP
from adaqf_train.config import DenoiserConfig, DiffusionConfig, SamplingConfig
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.latent.config import AutoencoderConfig, LatentFamily
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.masked.config import (
    MaskedFamily,
    TokenizerConfig,
    TokenSamplingConfig,
    TransformerConfig,
)
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.masked.networks import MotionTokenizer
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.networks import build_denoiser

DENOISER = DenoiserConfig(width=16, layers=1, heads=2, feedforward=16)
SAMPLING = SamplingConfig(scheduler="ddim", steps=2, batch=2)
TRANSFORMER = TransformerConfig(width=16, layers=1, heads=2, feedforward=16)
LATENT = LatentFamily(autoencoder=AutoencoderConfig(width=16, depth=2, latent=8), denoiser=DENOISER, sampling=SAMPLING)
MASKED = MaskedFamily(
    tokenizer=TokenizerConfig(width=16, depth=2, code=4, codes=16, levels=3),
    masked=TRANSFORMER,
    residual=TRANSFORMER,
    sampling=TokenSamplingConfig(steps=3, batch=2),
)


def encoder_of(base: Path) -> AdaCLIP:
    """An encoder whose adapter is not idle."""
    torch.manual_seed(0)
    encoder = AdaCLIP.from_base(base, rank=2, alpha=2)
    for parameter in encoder.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def generator_of(family: str, base: Path) -> MotionGenerator:
    """An untrained generator of the family."""
    encoder, mean, std = encoder_of(base), torch.zeros(263), torch.ones(263)
    if family == "mdm":
        denoiser = build_denoiser(encoder, 263, DENOISER, 50)
        return MDMGenerator(encoder, denoiser, Diffusion(DiffusionConfig()), mean, std, SAMPLING, 4, 200)
    if family == "latent":
        return LatentGenerator(encoder, MotionAutoencoder(263, LATENT.autoencoder), mean, std, LATENT).eval()
    tokenizer = MotionTokenizer(263, MASKED.tokenizer)
    tokenizer.quantiser.codes.normal_()
    return MaskedGenerator(encoder, tokenizer, mean, std, MASKED).eval()
