"""The latent diffusion family for the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator

from adaclip import AdaCLIP
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.generators.latent.config import POCKET, AutoencoderConfig, LatentFamily, settings
from adaqf_train.generators.latent.generator import LatentGenerator
from adaqf_train.generators.latent.networks import MotionAutoencoder
from adaqf_train.generators.latent.objective import fit_latent_autoencoder, fit_latent_diffusion
from adaqf_train.generators.registry import Codec, Family, Watch
from adaqf_train.training.loop import Place


def _fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    encoder: Path,
    codec: MotionAutoencoder,
    config: LatentFamily,
    place: Callable[[str], Place],
    watch: Watch | None,
) -> LatentGenerator:
    watched = {"every": watch.every, "at": watch.at} if watch else {}
    adaclip = AdaCLIP.from_base(str(encoder))
    generator = fit_latent_diffusion(accelerator, dataset, adaclip, codec, config, place("generator"), **watched)
    generator.max_frames = dataset.config.max_frames
    return generator


CODEC = Codec("autoencoder", MotionAutoencoder, AutoencoderConfig, "autoencoder", fit_latent_autoencoder)
FAMILY = Family(LatentGenerator, settings, _fit, LatentFamily, POCKET, CODEC)
