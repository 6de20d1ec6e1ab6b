"""Settings of the masked token family, at MoMask's sizes and at pocket size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from adaqf_train.config import RunConfig, TrainingConfig
from adaqf_train.config.networks import SequenceTransformer
from adaqf_train.config.schema import (
    Count,
    Group,
    Layers,
    NotNegative,
    Positive,
    Share,
    Width,
    at_least,
    at_most,
    require,
    within,
)
from adaqf_train.generators.shared import POCKET_CODEC_TRAINING, POCKET_TRAINING


@dataclass(frozen=True)
class TokenizerConfig(Group, name="tokenizer"):
    """The residual vector quantiser of motions (MoMask; defaults are its sizes)."""

    width: Width = 512  # Channels of the convolutions.
    depth: Layers = 3  # Residual blocks at each frame rate.
    code: Width = 512  # Channels of a code.
    codes: Annotated[int, at_least(2), at_most(65_536)] = 512  # Entries of each level's codebook.
    levels: Layers = 6  # The base level and the residual levels.
    commitment: NotNegative = 0.02  # Weight of the encoder's distance to its codes.
    decay: Annotated[float, within("(0, 1)")] = 0.99  # Decay of the codebooks' moving averages.
    reset_below: NotNegative = 1.0  # Average uses in a batch below which a code is moved.
    level_drop: Annotated[float, within("[0, 1]")] = 0.2  # Share of batches that are quantised with fewer levels.


@dataclass(frozen=True)
class TransformerConfig(SequenceTransformer, name="transformer"):
    """The transformers over motion tokens (MoMask; defaults are its sizes)."""

    width: Width = 384
    heads: Width = 6
    dropout: Share = 0.2
    text_drop: Share = 0.1  # Probability of training without text, for classifier-free guidance.
    corrupted: Share = 0.1  # Share of the tokens to predict that are shown as a random code instead of the mask.


@dataclass(frozen=True)
class TokenSamplingConfig(Group, name="sampling"):
    """How tokens are drawn from the trained transformers (MoMask's settings on HumanML3D)."""

    guidance: NotNegative = 4.0  # Weight of the prompt on the base level (classifier-free guidance).
    residual_guidance: NotNegative = 5.0  # The same on the residual levels.
    steps: Count = 10  # Rounds in which the base level is filled.
    temperature: Positive = 1.0  # Temperature of the distributions that tokens are drawn from.
    batch: Count = 64  # Motions sampled at once.


@dataclass(frozen=True)
class MaskedFamily:
    """Masked tokens: a residual quantiser, a transformer over its base level and one over its other levels."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=200_000, batch=256, learning_rate=2e-4, drop_at=100_000, ema=None)
    )
    masked: TransformerConfig = field(default_factory=TransformerConfig)
    masked_training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=2e-4, ema=None))
    residual: TransformerConfig = field(default_factory=lambda: TransformerConfig(text_drop=0.2, corrupted=0.0))
    residual_training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=2e-4, ema=None))
    sampling: TokenSamplingConfig = field(default_factory=TokenSamplingConfig)

    def __post_init__(self) -> None:
        require(
            self.tokenizer_training.ema is None,
            "tokenizer_training.ema must be none: the codebooks are moving averages already, and averaged weights "
            "around them would not fit them.",
        )


_POCKET_TRANSFORMER = TransformerConfig(width=128, layers=4, heads=4, feedforward=256, dropout=0.1)
POCKET = MaskedFamily(
    tokenizer=TokenizerConfig(width=128, depth=3, code=32, codes=128, levels=4),
    tokenizer_training=POCKET_CODEC_TRAINING,
    masked=_POCKET_TRANSFORMER,
    masked_training=POCKET_TRAINING,
    residual=replace(_POCKET_TRANSFORMER, text_drop=0.2, corrupted=0.0),
    residual_training=replace(POCKET_TRAINING, steps=300),  # residual levels add little and learn early
    sampling=TokenSamplingConfig(guidance=3.0, residual_guidance=1.5, steps=10),
)


def settings(run: RunConfig, own: MaskedFamily) -> MaskedFamily:
    """Everything that a training in that run depends on: the family's settings under the run's training seed."""
    seed = run.training.seed  # the quantiser keeps its own: one serves all training seeds
    return replace(
        own,
        masked_training=replace(own.masked_training, seed=seed),
        residual_training=replace(own.residual_training, seed=seed),
    )
