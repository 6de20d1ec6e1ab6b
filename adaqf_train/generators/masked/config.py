"""Settings of the masked token family, at MoMask's sizes and at pocket size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from adaqf_train.config import RunConfig, SamplingConfig, TrainingConfig
from adaqf_train.config.checks import require, require_positive
from adaqf_train.generators.shared import POCKET_CODEC_TRAINING, POCKET_TRAINING


@dataclass(frozen=True)
class TokenizerConfig:
    """The residual vector quantiser of motions (MoMask; defaults are its sizes)."""

    width: int = 512
    depth: int = 3
    code: int = 512  # channels of a code
    codes: int = 512  # entries of each level's codebook
    levels: int = 6  # the base level and five residual ones
    commitment: float = 0.02  # weight of the encoder's distance to its codes
    decay: float = 0.99  # of the codebooks' moving averages
    reset_below: float = 1.0  # average uses in a batch below which a code is moved
    level_drop: float = 0.2  # share of batches that are quantised with fewer levels

    def __post_init__(self) -> None:
        require_positive("tokenizer", self, "width", "depth", "code", "levels")
        require(self.codes >= 2, f"tokenizer.codes must be at least 2, got {self.codes}.")
        require(0 < self.decay < 1, f"tokenizer.decay must lie between 0 and 1, got {self.decay}.")
        require(0 <= self.level_drop <= 1, f"tokenizer.level_drop must lie in [0, 1], got {self.level_drop}.")
        for name in ("commitment", "reset_below"):
            require(getattr(self, name) >= 0, f"tokenizer.{name} must not be negative, got {getattr(self, name)}.")


@dataclass(frozen=True)
class TransformerConfig:
    """The transformers over motion tokens (MoMask; defaults are its sizes)."""

    width: int = 384
    layers: int = 8
    heads: int = 6
    feedforward: int = 1024
    dropout: float = 0.2
    text_drop: float = 0.1  # probability of training without text
    corrupted: float = 0.1  # share of the tokens to predict that are shown as a random code instead of the mask

    def __post_init__(self) -> None:
        require_positive("transformer", self, "width", "layers", "heads", "feedforward")
        require(
            self.width % self.heads == 0 and self.width % 2 == 0,
            f"transformer.width must be even and divisible by {self.heads} heads, got {self.width}.",
        )
        for name in ("dropout", "text_drop", "corrupted"):
            value = getattr(self, name)
            require(0 <= value < 1, f"transformer.{name} must lie in [0, 1), got {value}.")


@dataclass(frozen=True)
class TokenSamplingConfig:
    """How tokens are drawn from the trained transformers (MoMask's settings on HumanML3D)."""

    guidance: float = 4.0  # classifier-free guidance weight of the base level
    residual_guidance: float = 5.0
    steps: int = 10  # rounds in which the base level is filled
    temperature: float = 1.0
    batch: int = 64

    def __post_init__(self) -> None:
        # The same bounds, and the same messages, as a diffusion's.
        SamplingConfig(guidance=self.guidance, steps=self.steps, batch=self.batch)
        require_positive("sampling", self, "temperature")


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
