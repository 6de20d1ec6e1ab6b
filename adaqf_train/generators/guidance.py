"""Classifier-free guidance: the effect of the text on the denoiser's prediction, amplified."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adaclip import TextFeatures
from adaqf_train.generators.mdm.networks import Denoiser


@dataclass(frozen=True)
class Guided:
    """x0 = without + guidance · (with − without) for B prompts (Ho and Salimans 2022), both halves in one pass.

    At guidance 1 and 0, only the half that matters is computed.
    """

    denoiser: Denoiser
    text: TextFeatures  # of B prompts
    mask: Tensor  # (B, T), True = real frame
    guidance: float

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, T, D) normalised features at timestep t, (). Returns (B, T, D), float32."""
        if self.guidance in (0.0, 1.0):
            return self._denoise(x, t, self.text, self.mask, torch.full_like(self.mask[:, 0], self.guidance == 1.0))
        twice = TextFeatures(*(torch.cat([part, part]) for part in self.text))
        keep_text = torch.arange(2 * len(x), device=x.device) < len(x)
        both = self._denoise(torch.cat([x, x]), t, twice, torch.cat([self.mask, self.mask]), keep_text)
        with_text, without = both.chunk(2)
        return without + self.guidance * (with_text - without)

    def _denoise(self, x: Tensor, t: Tensor, text: TextFeatures, mask: Tensor, keep_text: Tensor) -> Tensor:
        # In half precision only the network computes; the solver's sums stay in float32.
        return self.denoiser(x.to(text.pooled.dtype), t.expand(len(x)), text, mask, keep_text).float()
