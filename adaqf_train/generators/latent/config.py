"""Settings of the latent diffusion family, at MLD's and SALAD's sizes and at pocket size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from adaqf_train.config import DenoiserConfig, DiffusionConfig, RunConfig, SamplingConfig, TrainingConfig
from adaqf_train.config.schema import Group, Layers, NotNegative, Width, require
from adaqf_train.generators.shared import FRAMES_PER_LATENT, POCKET_CODEC_TRAINING, POCKET_TRAINING


@dataclass(frozen=True)
class AutoencoderConfig(Group, name="autoencoder"):
    """The motion VAE whose latents are denoised (the idea of MLD and SALAD)."""

    width: Width = 512  # Channels of the convolutions; T2M-GPT's.
    depth: Layers = 3  # Residual blocks at each frame rate; T2M-GPT's.
    latent: Width = 32  # Channels of a latent frame, which stands for four frames.
    kl: NotNegative = 1e-4  # Weight of the divergence from a standard normal; MLD's.


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
        require(
            self.denoiser.frames_per_token == 1,
            f"denoiser.frames_per_token must be 1 over latents, got {self.denoiser.frames_per_token}: a latent frame "
            f"already stands for {FRAMES_PER_LATENT} frames.",
        )
        self.diffusion.require(self.sampling.steps)


POCKET = LatentFamily(
    autoencoder=AutoencoderConfig(width=128, depth=3, latent=16),
    autoencoder_training=POCKET_CODEC_TRAINING,
    denoiser=DenoiserConfig(width=128, layers=4, feedforward=256),
    training=replace(POCKET_TRAINING, steps=800),  # FID still falls after 600
    sampling=SamplingConfig(guidance=1.5, scheduler="ddim", steps=10),
)


def settings(run: RunConfig, own: LatentFamily) -> LatentFamily:
    """Everything that a training in that run depends on: the family's settings under the run's training seed."""
    return replace(own, training=replace(own.training, seed=run.training.seed))
