"""The latent diffusion family for the registry."""

from __future__ import annotations

from adaclip import AdaCLIP
from adaqf_train.generators.latent.config import POCKET, AutoencoderConfig, LatentFamily, settings
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.latent.objective import AutoencoderObjective, fit_latent_diffusion, standardise
from adaqf_train.generators.registry import Codec, Family, Fitting


def _fit(to: Fitting, config: LatentFamily) -> LatentGenerator:
    return fit_latent_diffusion(to, AdaCLIP.from_base(str(to.encoder)), config)


CODEC = Codec("autoencoder", MotionAutoencoder, AutoencoderConfig, "autoencoder", AutoencoderObjective, standardise)
FAMILY = Family(LatentGenerator, settings, _fit, LatentFamily, POCKET, CODEC)
