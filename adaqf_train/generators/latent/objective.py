"""Fits of the latent diffusion family: the motion VAE, and a denoiser of its latents under a frozen text encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaqf_train import seeding
from adaqf_train.config import TrainingConfig
from adaqf_train.config.families import FRAMES_PER_LATENT, AutoencoderConfig, LatentFamily
from adaqf_train.data.batches import MotionBatch, pad
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.frozen_text import FrozenText
from adaqf_train.errors import ConfigError
from adaqf_train.generators.latent.autoencoder import MotionAutoencoder
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.temporal import latent_mask
from adaqf_train.training import fit as fit_network
from adaqf_train.training import loop
from adaqf_train.training.fit import Curve
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import divergence_from_normal, masked_mse


def fit_latent_autoencoder(
    accelerator: Accelerator, dataset: MotionDataset, config: AutoencoderConfig, training: TrainingConfig, place: Place
) -> MotionAutoencoder:
    """The motion VAE of a split; it sees no text, so one serves all encoders that are compared."""
    if config.latent > dataset.features:
        raise ConfigError(f"autoencoder.latent is {config.latent}, more than there are features ({dataset.features}).")
    torch.manual_seed(seeding.mix(training.seed))
    autoencoder = MotionAutoencoder(dataset.features, config)

    def losses(network: nn.Module, batch: MotionBatch) -> loop.Losses:
        noise = latent_noise(batch, config.latent)
        motion, posterior = network(batch.motion, batch.mask, noise)
        mse = masked_mse(motion, batch.motion, batch.mask).mean()
        kl = divergence_from_normal(*posterior, latent_mask(batch.mask)).mean()
        loss = mse + config.kl * kl
        return loss, {"loss": loss, "mse": mse, "kl": kl}

    fit_network.fit(accelerator, dataset, autoencoder, losses, training, place)
    autoencoder.set_statistics(_latents(autoencoder, dataset, training.batch))
    return autoencoder


def fit_latent_diffusion(
    accelerator: Accelerator,
    dataset: MotionDataset,
    encoder: AdaCLIP,
    autoencoder: MotionAutoencoder,
    config: LatentFamily,
    place: Place,
    *,
    every: int | None = None,
    at: Callable[[int, LatentGenerator], None] | None = None,
) -> LatentGenerator:
    """A generator whose denoiser was trained from scratch; encoder and autoencoder stay as they are.

    at(step, generator): called every `every` steps and at the end, with the generator as it would be if training
    ended there; a resumed fit may call it again for the step of its checkpoint.
    """
    torch.manual_seed(seeding.mix(config.training.seed))
    statistics = torch.from_numpy(dataset.mean), torch.from_numpy(dataset.std)
    generator = LatentGenerator(encoder, autoencoder, *statistics, config).eval().to(accelerator.device)
    text = FrozenText(encoder, dataset.captions(), "both")

    def losses(denoiser: nn.Module, batch: MotionBatch) -> loop.Losses:
        with torch.no_grad():
            latents = autoencoder.encode(batch.motion, batch.mask)
        real = latent_mask(batch.mask)
        noised = generator.diffusion.noised(latents, batch.timestep, latent_noise(batch, latents.shape[-1]))
        features = text.features(batch.captions).to(accelerator.device)
        mse = masked_mse(denoiser(noised, batch.timestep, features, real, batch.keep_text), latents, real).mean()
        return mse, {"loss": mse}

    curve = Curve(every or config.training.steps, lambda step: at(step, generator)) if at else None
    fit_network.fit(
        accelerator,
        dataset,
        generator.denoiser,
        losses,
        config.training,
        place,
        diffusion=config.diffusion,
        curve=curve,
    )
    return generator.cpu()


def latent_noise(batch: MotionBatch, width: int) -> Tensor:
    """Standard normal noise (B, T / 4, width) of a batch's own draws; width: at most that of the features."""
    return batch.noise[:, ::FRAMES_PER_LATENT, :width]


@torch.no_grad()
def _latents(autoencoder: MotionAutoencoder, dataset: MotionDataset, batch: int) -> Tensor:
    """Means of all latent frames of a split, (M, latent), in its order."""
    unit, found = dataset.config.unit_frames, []
    for start in range(0, len(dataset), batch):
        items = dataset.items[start : start + batch]
        motion, mask = pad([dataset.normalise(item.vectors[: len(item.vectors) // unit * unit]) for item in items])
        found.append(autoencoder.posterior(motion, mask).mean[latent_mask(mask)])
    return torch.cat(found)
