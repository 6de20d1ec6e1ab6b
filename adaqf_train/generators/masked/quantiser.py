"""Motions as tokens: a residual vector quantiser whose codebooks follow moving averages (Guo et al. 2024, MoMask)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adaqf_train.config.families import TokenizerConfig
from adaqf_train.generators.temporal import TemporalDecoder, TemporalEncoder, latent_mask


class Quantised(NamedTuple):
    """Latents as sums of codes, one from each level's codebook."""

    latents: Tensor  # (B, N, code): the sums; their gradient goes to what was quantised
    tokens: Tensor  # (B, N, levels) long
    residuals: Tensor  # (B, N, levels, code): what each level was to express, without gradients
    commitment: Tensor  # (B,): mean squared distance of what each level was to express to its code


class ResidualQuantiser(nn.Module):
    """A codebook for each level; a level quantises what the levels before it left."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codes", torch.zeros(config.levels, config.codes, config.code))
        self.register_buffer("uses", torch.zeros(config.levels, config.codes))  # moving averages, as the sums
        self.register_buffer("sums", torch.zeros(config.levels, config.codes, config.code))

    def forward(self, latents: Tensor, mask: Tensor, levels: int) -> Quantised:
        """latents: (B, N, code); mask: (B, N), True = real; levels: how many to use, from the first.

        In float32 whatever the precision around it: what a level leaves is small beside what it was given.
        """
        latents = latents.float()
        left, commitment = latents, latents.new_zeros(len(latents))
        tokens, residuals = [], []
        for codes in self.codes[:levels]:
            nearest = _nearest(left.detach(), codes)
            code = codes[nearest]
            distance = (left - code).square().mean(dim=-1) * mask
            commitment = commitment + distance.sum(dim=-1) / mask.sum(dim=-1)
            tokens.append(nearest)
            residuals.append(left.detach())
            left = left - code
        total = latents - left  # the sum of the codes; straight through to what was quantised
        straight = latents + (total - latents).detach()
        return Quantised(straight, torch.stack(tokens, -1), torch.stack(residuals, -2), commitment / levels)

    def look_up(self, tokens: Tensor) -> Tensor:
        """Sums of codes: (B, N, levels) long, of the first levels -> (B, N, code)."""
        return sum(self.codes[level][tokens[..., level]] for level in range(tokens.shape[-1]))

    @torch.no_grad()
    def start(self, latents: Tensor) -> None:
        """Gives every level codes among what it has to express of these latents (M, code)."""
        latents = latents.float()
        for codes in self.codes:
            codes.copy_(latents[torch.randint(len(latents), (len(codes),)).to(latents.device)])
            latents = latents - codes[_nearest(latents, codes)]
        self.uses.fill_(self.config.reset_below + 1)
        self.sums.copy_(self.codes * self.uses[..., None])

    @torch.no_grad()
    def counts(self, quantised: Quantised, mask: Tensor) -> tuple[Tensor, Tensor]:
        """How often each code was used (levels, codes), and the sums of what it stood for (levels, codes, code)."""
        tokens, residuals = quantised.tokens[mask], quantised.residuals[mask]  # (M, levels), (M, levels, code)
        levels, entries = tokens.shape[1], self.config.codes
        place = (tokens + entries * torch.arange(levels, device=tokens.device)).flatten()
        uses = torch.bincount(place, minlength=levels * entries).to(self.uses.dtype)
        sums = self.sums.new_zeros(levels * entries, self.config.code).index_add_(0, place, residuals.flatten(0, 1))
        return uses.unflatten(0, (levels, entries)), sums.unflatten(0, (levels, entries))

    @torch.no_grad()
    def follow(self, uses: Tensor, sums: Tensor, residuals: Tensor) -> None:
        """Moves the codebooks of the first levels towards what their codes stood for, and resets idle codes.

        uses, sums: of `counts`, summed over processes. residuals: (M, levels, code), where idle codes may go.
        """
        levels, weight = len(uses), 1 - self.config.decay
        self.uses[:levels].lerp_(uses, weight)
        self.sums[:levels].lerp_(sums, weight)
        self.codes[:levels] = self.sums[:levels] / self.uses[:levels, :, None].clamp(min=1e-6)
        for level in range(levels):
            idle = (self.uses[level] < self.config.reset_below).nonzero()[:, 0]
            rows = torch.randint(len(residuals), (len(idle),)).to(residuals.device)
            self.codes[level, idle] = residuals[rows, level]
            self.uses[level, idle] = self.config.reset_below
            self.sums[level, idle] = residuals[rows, level] * self.config.reset_below


class MotionTokenizer(nn.Module):
    """Motions to tokens at a quarter of the frame rate, `levels` of them at a time, and back; sees no text."""

    def __init__(self, features: int, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TemporalEncoder(features, config.width, config.depth, config.code)
        self.quantiser = ResidualQuantiser(config)
        self.decoder = TemporalDecoder(config.code, config.width, config.depth, features)

    def forward(self, motion: Tensor, mask: Tensor, levels: int) -> tuple[Tensor, Quantised]:
        """The reconstruction (B, T, D) of motions through the first levels, and how they were quantised."""
        real = latent_mask(mask)
        quantised = self.quantiser(self.encoder(motion, mask), real, levels)
        return self.decoder(quantised.latents, real), quantised

    @torch.no_grad()
    def encode(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, T / 4, levels) long of normalised features (B, T, D), mask (B, T) True = real."""
        return self.quantiser(self.encoder(motion, mask), latent_mask(mask), self.config.levels).tokens

    def decode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Normalised features (B, 4 N, D) of tokens (B, N, levels), of the first levels; mask (B, N) True = real."""
        return self.decoder(self.quantiser.look_up(tokens), mask)


def _nearest(latents: Tensor, codes: Tensor) -> Tensor:
    """Indices of the nearest codes: (..., C), (K, C) -> (...)."""
    with torch.autocast(latents.device.type, enabled=False):
        # |x - c|^2 without |x|^2, which does not change the order.
        return (codes.square().sum(dim=-1) - 2 * latents.float() @ codes.T).argmin(dim=-1)
