"""Gaussian diffusion with x0-prediction; schedule and sampler are diffusers'."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from adaclip import TextFeatures
from adaqf_train.config import DiffusionConfig
from adaqf_train.models.denoiser import Denoiser

if TYPE_CHECKING:
    from diffusers import DDIMScheduler

Sampler = Literal["ddpm", "ddim"]


class Diffusion:
    """The forward process, and sampling with classifier-free guidance (MDM's settings)."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        # x_t = sqrt(abar) x0 + sqrt(1 - abar) noise; Eq. 1 of the paper prints beta where abar is meant.
        self.alpha_bar: Tensor = self.schedule().alphas_cumprod  # (steps,)

    def schedule(self) -> DDIMScheduler:
        """MDM's cosine schedule (max beta 0.999), x0-prediction, no clipping of the sample."""
        from diffusers import DDIMScheduler

        return DDIMScheduler(
            num_train_timesteps=self.config.steps,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="sample",
            clip_sample=False,
            timestep_spacing="trailing",  # the default would start pure noise below the last timestep
        )

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of the forward process (Eq. 1, corrected). x0, noise: (B, T, D); t: (B,)."""
        alpha_bar = self.alpha_bar.to(x0.device)[t][:, None, None]
        return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser,
        text: TextFeatures,
        mask: Tensor,
        features: int,
        *,
        guidance: float,
        steps: int,
        scheduler: Sampler,
        generators: Sequence[torch.Generator],
        on_step: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Motions for B prompts, both halves of the guidance in one pass.

        text: of B prompts; mask: (B, T), True = real frame; generators: one on the CPU for each item, so that a
        motion depends neither on its batch nor on the device. Returns (B, T, features) normalised features,
        zero beyond the lengths.
        """
        B, T = mask.shape
        device = mask.device
        lengths = mask.sum(dim=-1).tolist()
        sampler = self.schedule()
        sampler.set_timesteps(steps, device=device)
        both = TextFeatures(*(torch.cat([part, part]) for part in text))
        both_masks = torch.cat([mask, mask])
        keep_text = torch.arange(2 * B, device=device) < B
        x = _noise(lengths, T, features, generators).to(device)
        for t in sampler.timesteps:
            with_text, without = denoiser(torch.cat([x, x]), t.expand(2 * B), both, both_masks, keep_text).chunk(2)
            x0 = without + guidance * (with_text - without)
            # DDPM with the fixed small variance is DDIM at eta 1, whose step takes noise drawn item by item.
            noise = _noise(lengths, T, features, generators).to(device) if scheduler == "ddpm" else None
            x = sampler.step(x0, t, x, eta=float(scheduler == "ddpm"), variance_noise=noise).prev_sample
            on_step()
        return x * mask[..., None]


def _noise(lengths: Sequence[int], frames: int, features: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise (B, frames, features) of which each item draws only its own frames."""
    noise = torch.zeros(len(lengths), frames, features)
    for row, length, generator in zip(noise, lengths, generators, strict=True):
        row[:length] = torch.randn(length, features, generator=generator)
    return noise
