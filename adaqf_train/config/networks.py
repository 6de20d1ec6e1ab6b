"""Settings of the networks: text encoder, judges, denoiser and its diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from adaclip.config import LORA_MODULES, LoRASettings
from adaqf_train.config.schema import (
    Count,
    Group,
    Items,
    Layers,
    Natural,
    NotNegative,
    Positive,
    Share,
    Width,
    at_least,
    at_most,
    require,
    within,
)
from adaqf_train.errors import ConfigError

POCKET_BASE = "pocket"  # encoder.base: train the small still-pose CLIP on the data at hand


@dataclass(frozen=True)
class TransformerSizes(Group, name="transformer"):
    """Sizes of a transformer."""

    width: Width = 512
    """Width of the transformer."""
    layers: Layers = 8
    """Layers of the transformer."""
    heads: Width = 4
    """Attention heads of each layer."""
    feedforward: Width = 1024
    """Hidden width of each layer's MLP."""

    def __post_init__(self) -> None:
        super().__post_init__()
        heads, name = self.heads, self._name
        require(self.width % heads == 0, f"{name}.width must be divisible by {name}.heads ({heads}), got {self.width}.")


@dataclass(frozen=True)
class SequenceTransformer(TransformerSizes, name="transformer"):
    """Sizes of a transformer with sinusoidal position codes."""

    dropout: Share = 0.1
    """Dropout of the transformer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 2 == 0, f"{self._name}.width must be even for the position codes, got {self.width}.")


@dataclass(frozen=True)
class ContrastiveFit(Group, name="fit"):
    """Optimisation of two towers that embed matching pairs close to each other."""

    steps: Count = 20_000
    """Training steps."""
    batch: Annotated[int, at_least(2), Items] = 64
    """Pairs in a batch."""
    learning_rate: Positive = 1e-4
    """Learning rate of AdamW."""
    seed: Natural = 0
    """Seed of the initial weights and of the batches."""


@dataclass(frozen=True)
class PocketClipConfig(TransformerSizes, ContrastiveFit, name="pocket_clip"):
    """The miniature of CLIP: a text tower trained against single still poses."""

    vocabulary: Annotated[int, at_least(514), at_most(1_000_000)] = 1000
    """Entries of its byte-pair encoding; 514 hold every byte (two each) and two special tokens."""
    width: Width = 128
    layers: Layers = 4
    feedforward: Width = 512
    projection: Width = 128  # Width of the embedding that text and poses share.
    steps: Count = 300
    batch: Annotated[int, at_least(2), Items] = 128
    learning_rate: Positive = 1e-3


@dataclass(frozen=True)
class EncoderConfig(Group, name="encoder"):
    """The text encoder, and which part of it is trained."""

    base: str = "openai/clip-vit-base-patch32"
    """Hub id or folder of a text encoder (CLIP, BERT-like or T5); "pocket" trains a small one on the data at hand."""
    tuning: Literal["lora", "frozen", "full"] = "lora"
    """lora trains an adapter, frozen nothing; full trains the whole text tower and yields no adapter."""
    rank: Annotated[int, at_most(65_536)] = 16  # Rank of the adapter in all modules; the paper's.
    alpha: Annotated[int, at_most(65_536)] = 16  # Scale of the adapter times its rank; the paper does not give it.
    dropout: float = 0.0  # Dropout in front of the adapter; the paper does not give it.
    modules: tuple[str, ...] = LORA_MODULES
    """Linear layers that are adapted, by CLIP's names in every family: query, key, value and the MLP (section 3.4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            LoRASettings(self.rank, self.alpha, self.dropout, self.modules)
        except ValueError as error:
            raise ConfigError(f"encoder: {str(error)[:300]}") from error


@dataclass(frozen=True)
class ExtractorConfig(ContrastiveFit, name="extractors"):
    """The text and motion extractors that give feedback: T2M's GRU design and sizes, about 55 epochs of HumanML3D."""

    movement: Width = 512  # Channels of the movement convolution.
    motion_hidden: Width = 1024  # Hidden width of the motion BiGRU, per direction.
    text_hidden: Width = 512  # Hidden width of the text BiGRU, per direction.
    embedding: Width = 512  # Width of the embedding that text and motion share.
    dropout: Share = 0.2  # Dropout of the movement convolution.
    noise: NotNegative = 0.0  # Standard deviation of the noise on normalised motions while the extractors are trained.
    adversarial: NotNegative = 0.0
    """Root mean square of a step on normalised motions against the loss: extractors that are trained with it as well
    are harder to exploit (adversarial training, Goodfellow et al. 2015)."""
    smoothing: Annotated[float, within("[0, 8]")] = 0.0
    """Standard deviation, in frames, of the Gaussian that smooths motions before the extractors read them, so that the
    feedback's gradient has no jitter. 0: motions as they are."""
    objective: Literal["infonce", "margin", "minimal_pairs"] = "infonce"
    """margin: the loss of T2M's evaluators. minimal_pairs: InfoNCE with captions in which a word is flipped."""
    temperature: Positive = 0.1
    """Temperature of InfoNCE. The paper gives none; 0.1 is TMR's, and 1 floors the loss at 2.5 to 3.2."""
    margin: Positive = 10.0  # Margin of the Euclidean distances; T2M's.
    full_set: bool = True  # Train on all clips even if data.samples limits those of the generator (appendix A.1).
    seed: Natural = 1


@dataclass(frozen=True)
class EvaluatorConfig(SequenceTransformer, ContrastiveFit, name="evaluator"):
    """The independent evaluator: transformers instead of GRUs, another seed, its own word vectors (TMR's family)."""

    width: Width = 256
    layers: Layers = 6
    embedding: Width = 256  # Width of the embedding that text and motion share.
    temperature: Positive = 0.1  # Temperature of InfoNCE; TMR's.
    flipped: bool = False  # Add captions with one flipped word to the negatives.
    steps: Count = 30_000
    seed: Natural = 2


@dataclass(frozen=True)
class JointEvaluatorConfig(ContrastiveFit, name="joint_evaluator"):
    """The second independent evaluator: convolutions over decoded joints, another seed."""

    width: Count = 256  # Channels of the convolutions.
    layers: Count = 4  # Convolutions of each tower; each sees twice as far as the one before it.
    embedding: Count = 256  # Width of the embedding that text and motion share.
    dropout: Share = 0.1  # Dropout behind each convolution.
    temperature: Positive = 0.1  # Temperature of InfoNCE; TMR's.
    flipped: bool = False  # Add captions with one flipped word to the negatives.
    steps: Count = 20_000
    seed: Natural = 3


@dataclass(frozen=True)
class DenoiserConfig(SequenceTransformer, name="denoiser"):
    """MDM's transformer; defaults are its decoder's sizes (26.3 M parameters)."""

    arch: Literal["decoder", "encoder"] = "decoder"
    """decoder attends to the text (MDM's trans_dec); encoder starts its sequence with it (trans_enc)."""
    conditioning: Literal["tokens", "pooled", "both"] = "tokens"
    """Text features that the denoiser reads: all tokens, the pooled vector (MDM's one-token memory), or both."""
    frames_per_token: Width = 1
    """Frames that one token of the sequence holds; more shortens the sequence, for machines without a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.frames_per_token == 1 or self.frames_per_token % 2 == 0,
            f"denoiser.frames_per_token must be 1 or even, got {self.frames_per_token}.",
        )


@dataclass(frozen=True)
class DiffusionConfig(Group, name="diffusion"):
    """Gaussian diffusion with x0-prediction on the cosine schedule (MDM)."""

    steps: Annotated[int, at_least(2), at_most(10_000)] = 50  # Timesteps in training and inference (section 4.1).
    noisy_share: Share = 0.0
    """Share of the training items whose timestep is drawn from the noisiest fifth alone, where content is decided."""
    text_drop: Share = 0.1  # Probability of training without text, for classifier-free guidance; MDM's.

    def require(self, steps: int) -> None:
        """Raises ConfigError if sampling has more steps than training."""
        require(steps <= self.steps, f"sampling.steps ({steps}) must not exceed diffusion.steps ({self.steps}).")
