"""Settings of the families: what cannot work is refused with its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adaqf_train.config import DenoiserConfig, SamplingConfig
from adaqf_train.errors import ConfigError
from adaqf_train.generators.latent.config import AutoencoderConfig, LatentFamily
from adaqf_train.generators.masked.config import (
    POCKET,
    MaskedFamily,
    TokenizerConfig,
    TokenSamplingConfig,
    TransformerConfig,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoencoderConfig(latent=0), r"autoencoder\.latent"),
        (lambda: AutoencoderConfig(kl=-1.0), r"autoencoder\.kl"),
        (lambda: TokenizerConfig(codes=1), r"tokenizer\.codes"),
        (lambda: TokenizerConfig(decay=1.0), r"tokenizer\.decay"),
        (lambda: TokenizerConfig(level_drop=1.5), r"tokenizer\.level_drop"),
        (lambda: TransformerConfig(width=20, heads=3), r"transformer\.width"),
        (lambda: TransformerConfig(corrupted=1.0), r"transformer\.corrupted"),
        (lambda: TokenSamplingConfig(temperature=0.0), "temperature"),
        (lambda: LatentFamily(denoiser=DenoiserConfig(frames_per_token=4)), "frames_per_token must be 1"),
        (lambda: LatentFamily(sampling=SamplingConfig(steps=51)), r"sampling\.steps \(51\)"),
        (
            lambda: MaskedFamily(tokenizer_training=replace(POCKET.tokenizer_training, ema=0.9)),
            r"tokenizer_training\.ema must be none",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
