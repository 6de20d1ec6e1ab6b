"""Settings of the generator families that AdaCLIP is carried over to: latent diffusion and masked tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from adaqf_train.config import DenoiserConfig, DiffusionConfig, SamplingConfig, TrainingConfig
from adaqf_train.errors import ConfigError

FRAMES_PER_LATENT = 4  # both families halve the frame rate twice


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_positive(group: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value > 0, f"{group}.{name} must be positive, got {value}.")


@dataclass(frozen=True)
class AutoencoderConfig:
    """The motion VAE that latent diffusion works in (MLD's and SALAD's idea)."""

    width: int = 512  # channels of the convolutions; T2M-GPT's
    depth: int = 3  # residual blocks at each frame rate; T2M-GPT's
    latent: int = 32  # channels of a latent frame, which stands for four frames
    kl: float = 1e-4  # weight of the divergence from a standard normal; MLD's

    def __post_init__(self) -> None:
        _require_positive("autoencoder", self, "width", "depth", "latent")
        _require(self.kl >= 0, f"autoencoder.kl must not be negative, got {self.kl}.")


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
    reset_below: float = 1.0  # average uses in a batch below which a code is given a new place
    level_drop: float = 0.2  # share of batches that are quantised with fewer levels

    def __post_init__(self) -> None:
        _require_positive("tokenizer", self, "width", "depth", "code", "levels")
        _require(self.codes >= 2, f"tokenizer.codes must be at least 2, got {self.codes}.")
        _require(0 < self.decay < 1, f"tokenizer.decay must lie between 0 and 1, got {self.decay}.")
        _require(0 <= self.level_drop <= 1, f"tokenizer.level_drop must lie in [0, 1], got {self.level_drop}.")
        for name in ("commitment", "reset_below"):
            _require(getattr(self, name) >= 0, f"tokenizer.{name} must not be negative, got {getattr(self, name)}.")


@dataclass(frozen=True)
class TransformerConfig:
    """The transformers over motion tokens (MoMask; defaults are its sizes)."""

    width: int = 384
    layers: int = 8
    heads: int = 6
    feedforward: int = 1024
    dropout: float = 0.2
    text_drop: float = 0.1  # probability of training without text
    corrupted: float = 0.1  # of the tokens to predict, how many are shown as a random code instead of the mask

    def __post_init__(self) -> None:
        _require_positive("transformer", self, "width", "layers", "heads", "feedforward")
        _require(
            self.width % self.heads == 0 and self.width % 2 == 0,
            f"transformer.width must be even and divisible by {self.heads} heads, got {self.width}.",
        )
        for name in ("dropout", "text_drop", "corrupted"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"transformer.{name} must lie in [0, 1), got {value}.")


@dataclass(frozen=True)
class TokenSamplingConfig:
    """How tokens are drawn from the trained transformers (MoMask's settings on HumanML3D)."""

    guidance: float = 4.0  # of the base level
    residual_guidance: float = 5.0
    steps: int = 10  # rounds in which the base level is filled
    temperature: float = 1.0
    batch: int = 64

    def __post_init__(self) -> None:
        _require_positive("token sampling", self, "steps", "temperature", "batch")


# Codebooks average themselves and the optimiser does not know them, so weights of an average would not fit them.
_TOKENIZER_TRAINING = TrainingConfig(steps=200_000, batch=256, learning_rate=2e-4, drop_at=100_000, ema=None)


@dataclass(frozen=True)
class LatentFamily:
    """Latent diffusion: a motion VAE, then a denoiser over its latents conditioned on token states."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    autoencoder_training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(steps=200_000, learning_rate=2e-4, drop_at=100_000, ema=None)
    )
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        _require(
            self.denoiser.frames_per_token == 1,
            f"denoiser.frames_per_token must be 1 over latents, got {self.denoiser.frames_per_token}: a latent frame "
            f"already stands for {FRAMES_PER_LATENT} frames.",
        )
        _require(
            self.sampling.steps <= self.diffusion.steps,
            f"sampling.steps ({self.sampling.steps}) must not exceed diffusion.steps ({self.diffusion.steps}).",
        )


@dataclass(frozen=True)
class MaskedFamily:
    """Masked tokens: a residual quantiser, a transformer over its base level and one over its other levels."""

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    tokenizer_training: TrainingConfig = _TOKENIZER_TRAINING
    masked: TransformerConfig = field(default_factory=TransformerConfig)
    masked_training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=2e-4, ema=None))
    residual: TransformerConfig = field(default_factory=lambda: TransformerConfig(text_drop=0.2, corrupted=0.0))
    residual_training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=2e-4, ema=None))
    sampling: TokenSamplingConfig = field(default_factory=TokenSamplingConfig)

    def __post_init__(self) -> None:
        _require(
            self.tokenizer_training.ema is None,
            "tokenizer_training.ema must be none: codebooks average themselves, and averaged weights around them "
            "would not fit them.",
        )


@dataclass(frozen=True)
class MoClipConfig:
    """A contrastive adaptation of CLIP with a tether to its base (the idea of MoCLIP, Maldonado et al. 2025)."""

    tuning: Literal["lora", "full"] = "lora"  # full: every weight of the text tower
    rank: int = 16  # as AdaCLIP's
    alpha: int = 16
    temperature: float = 0.1  # as the extractors'
    tether: float = 1.0  # weight of 1 - cosine to the base's embedding
    learning_rate: float = 1e-4
    encoder_learning_rate: float = 1e-4
    steps: int = 20_000
    batch: int = 64
    checkpoint_every: int = 1000
    seed: int = 3

    def __post_init__(self) -> None:
        _require_positive(
            "moclip", self, "rank", "alpha", "temperature", "learning_rate", "encoder_learning_rate", "steps"
        )
        _require(self.batch >= 2, f"moclip.batch must be at least 2, got {self.batch}.")
        _require(self.tether >= 0, f"moclip.tether must not be negative, got {self.tether}.")
        _require(self.seed >= 0, f"moclip.seed must not be negative, got {self.seed}.")


@dataclass(frozen=True)
class Families:
    """What AdaCLIP is compared in, and with."""

    latent: LatentFamily = field(default_factory=LatentFamily)
    masked: MaskedFamily = field(default_factory=MaskedFamily)
    moclip: MoClipConfig = field(default_factory=MoClipConfig)
