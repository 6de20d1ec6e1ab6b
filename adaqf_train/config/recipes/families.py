"""Pocket sizes of the generator families: a step takes at most 0.16 s of one core.

Chosen on the validation split of the procedural motions. The networks that see no text are trained once and shared by
all encoders that are compared, so they may take longer than those that do: what is lost in them no encoder brings back.
"""

from dataclasses import replace

from adaqf_train.config import DenoiserConfig, SamplingConfig, TrainingConfig
from adaqf_train.config.families import (
    AutoencoderConfig,
    Families,
    LatentFamily,
    MaskedFamily,
    MoClipConfig,
    TokenizerConfig,
    TokenSamplingConfig,
    TransformerConfig,
)

_CODEC_TRAINING = TrainingConfig(
    steps=300,
    batch=64,
    learning_rate=2e-3,  # twice the usual one reconstructs better at equal steps
    drop_at=255,
    ema=None,
    workers=0,
    checkpoint_every=100,
    log_every=10,
)
_TRAINING = TrainingConfig(
    steps=600,
    batch=32,
    learning_rate=1e-3,
    drop_at=None,  # as in the pocket recipe
    ema=0.99,  # a horizon of 100 steps, as in the pocket recipe
    workers=0,
    checkpoint_every=100,
    log_every=10,
)
_TRANSFORMER = TransformerConfig(width=128, layers=4, heads=4, feedforward=256, dropout=0.1)

POCKET_LATENT = LatentFamily(
    autoencoder=AutoencoderConfig(width=128, depth=3, latent=16),
    autoencoder_training=_CODEC_TRAINING,
    denoiser=DenoiserConfig(width=128, layers=4, feedforward=256),
    training=replace(_TRAINING, steps=800),  # after 600 its FID is still falling
    sampling=SamplingConfig(guidance=1.5, scheduler="ddim", steps=10),
)
POCKET_MASKED = MaskedFamily(
    tokenizer=TokenizerConfig(width=128, depth=3, code=32, codes=128, levels=4),
    tokenizer_training=_CODEC_TRAINING,
    masked=_TRANSFORMER,
    masked_training=_TRAINING,
    residual=replace(_TRANSFORMER, text_drop=0.2, corrupted=0.0),
    residual_training=replace(_TRAINING, steps=300),  # residual levels add little and learn early
    sampling=TokenSamplingConfig(guidance=3.0, residual_guidance=1.5, steps=10),
)
POCKET_MOCLIP = MoClipConfig(learning_rate=1e-3, encoder_learning_rate=1e-3, steps=400, checkpoint_every=100)

POCKET = Families(POCKET_LATENT, POCKET_MASKED, POCKET_MOCLIP)
