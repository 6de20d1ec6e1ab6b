"""Objectives and fits of the latent diffusion family: the motion VAE, and a denoiser of its latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaqf_train.data.batches import NOISE, MotionBatch, pad
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.generators.latent.config import LatentFamily
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.registry import Fitting
from adaqf_train.generators.shared import FRAMES_PER_LATENT
from adaqf_train.generators.temporal import latent_mask
from adaqf_train.training.fit import fit
from adaqf_train.training.losses import divergence_from_normal, masked_mse
from adaqf_train.training.objective import Losses, Objective

BATCH = 64  # clips that are encoded at once after the fit


class AutoencoderObjective(Objective):
    """Reconstruction and divergence of the posterior from a standard normal (MLD)."""

    def __init__(self, accelerator: Accelerator, autoencoder: MotionAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"autoencoder": self.autoencoder}

    def forward(self, batch: MotionBatch) -> Losses:
        config = self.autoencoder.config
        motion, posterior = self.autoencoder(batch.motion, batch.mask, latent_noise(batch, config.latent))
        mse = masked_mse(motion, batch.motion, batch.mask).mean()
        kl = divergence_from_normal(*posterior, latent_mask(batch.mask)).mean()
        loss = mse + config.kl * kl
        return loss, {"loss": loss, "mse": mse, "kl": kl}


class LatentDiffusionObjective(Objective):
    """Predicts clean latents from noisy ones under a frozen text encoder."""

    def __init__(self, generator: LatentGenerator, captions: list[str]) -> None:
        super().__init__()
        self._generator = (generator,)  # a tuple: what the generator holds beside the denoiser is not trained here
        self.denoiser = generator.denoiser
        self.compiles = (generator.denoiser,)
        self.diffusion = generator.config.diffusion
        self.text = FrozenCaptions(generator.encoder, captions, "both")

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"denoiser": self.denoiser}

    def forward(self, batch: MotionBatch) -> Losses:
        (generator,) = self._generator
        with torch.no_grad():
            latents = generator.autoencoder.encode(batch.motion, batch.mask)
        real, noise = latent_mask(batch.mask), latent_noise(batch, latents.shape[-1])
        noised = generator.diffusion.noised(latents, batch.timestep, noise)
        text = self.text.features(batch.captions)
        mse = masked_mse(self.denoiser(noised, batch.timestep, text, real, batch.keep_text), latents, real).mean()
        return mse, {"loss": mse}


def fit_latent_diffusion(to: Fitting, encoder: AdaCLIP, config: LatentFamily) -> LatentGenerator:
    """Train a generator from scratch; encoder and autoencoder stay as they are."""
    generator = to.untrained(LatentGenerator, encoder, config, config.training.seed)
    objective = LatentDiffusionObjective(generator, to.dataset.captions())
    fit(to.accelerator, to.dataset, objective, config.training, to.place("generator"), to.watch(generator))
    return generator.cpu()


def latent_noise(batch: MotionBatch, width: int) -> Tensor:
    """Standard normal noise (B, T / 4, width), drawn for each sample by itself."""
    return batch.normal(NOISE, (batch.motion.shape[1] // FRAMES_PER_LATENT, width))


@torch.no_grad()
def standardise(autoencoder: MotionAutoencoder, dataset: MotionDataset) -> None:
    """Gives an autoencoder the statistics of the mean latents of a split."""
    unit, found = dataset.config.unit_frames, []
    for start in range(0, len(dataset), BATCH):
        items = dataset.items[start : start + BATCH]
        motion, mask = pad([dataset.normalise(item.vectors[: len(item.vectors) // unit * unit]) for item in items])
        found.append(autoencoder.posterior(motion, mask).mean[latent_mask(mask)])
    autoencoder.set_statistics(torch.cat(found))
