"""Latent diffusion from text: the motion VAE's latents, denoised under the prompt's token states (SALAD's family)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from adaclip import AdaCLIP, TextFeatures
from adaqf_train.config import DenoiserConfig, DiffusionConfig, SamplingConfig
from adaqf_train.config.families import AutoencoderConfig, LatentFamily
from adaqf_train.generators.base import LatentFrameGenerator
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.folder import build_denoiser
from adaqf_train.generators.guidance import Guided
from adaqf_train.generators.latent.autoencoder import MotionAutoencoder
from adaqf_train.generators.temporal import latent_mask


class LatentGenerator(LatentFrameGenerator):
    """Prompts in, motions out, by way of latents."""

    family = "latent"

    def __init__(
        self, encoder: AdaCLIP, autoencoder: MotionAutoencoder, mean: Tensor, std: Tensor, config: LatentFamily
    ) -> None:
        """autoencoder: a trained one; the denoiser starts untrained."""
        super().__init__(encoder, mean, std)
        self.config, self.sampling = config, config.sampling
        self.diffusion = Diffusion(config.diffusion)
        self.autoencoder = autoencoder.requires_grad_(False)
        self.denoiser = build_denoiser(encoder, autoencoder.config.latent, config.denoiser, config.diffusion.steps)

    @property
    def steps(self) -> int:
        return self.sampling.steps

    @property
    def batch(self) -> int:
        return self.sampling.batch

    def _sample(
        self, text: TextFeatures, mask: Tensor, generators: Sequence[torch.Generator], on_step: Callable[[], object]
    ) -> Tensor:
        real = latent_mask(mask)
        latents = self.diffusion.sample(
            Guided(self.denoiser, text, real, self.sampling.guidance),
            real,
            self.autoencoder.config.latent,
            steps=self.sampling.steps,
            scheduler=self.sampling.scheduler,
            generators=generators,
            on_step=on_step,
        )
        return self.autoencoder.decode(latents, real)

    def _settings(self) -> dict:
        return {
            "autoencoder": asdict(self.autoencoder.config),
            "denoiser": asdict(self.denoiser.config),
            "diffusion": asdict(self.diffusion.config),
            "sampling": asdict(self.sampling),
        }

    @classmethod
    def _build(cls, encoder: AdaCLIP, mean: Tensor, std: Tensor, settings: dict) -> LatentGenerator:
        config = LatentFamily(
            autoencoder=AutoencoderConfig(**settings["autoencoder"]),
            denoiser=DenoiserConfig(**settings["denoiser"]),
            diffusion=DiffusionConfig(**settings["diffusion"]),
            sampling=SamplingConfig(**settings["sampling"]),
        )
        return cls(encoder, MotionAutoencoder(len(mean), config.autoencoder), mean, std, config)
