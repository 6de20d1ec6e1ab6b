"""Settings that the families over latent frames share.

Pocket sizes were chosen on the validation split of the procedural motions, so that a step takes at most 0.16 s of one
core. A codec sees no text and is trained once for all encoders that are compared, so it may take longer than what
follows: no encoder recovers what a codec loses.
"""

from __future__ import annotations

from dataclasses import replace

from adaqf_train.config import TrainingConfig

FRAMES_PER_LATENT = 4  # both families halve the frame rate twice

POCKET_TRAINING = TrainingConfig(
    steps=600,
    batch=32,
    learning_rate=1e-3,
    drop_at=None,  # as in the pocket recipe
    ema=0.99,  # a horizon of 100 steps, as in the pocket recipe
    workers=0,
    checkpoint_every=100,
    log_every=10,
)
POCKET_CODEC_TRAINING = replace(
    POCKET_TRAINING,
    steps=300,
    batch=64,
    learning_rate=2e-3,  # twice the usual rate reconstructs better at equal steps
    drop_at=255,
    ema=None,
)
