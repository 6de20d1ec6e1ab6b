"""Motions to make, and how they are put together in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from adaclip import TextFeatures
from adaqf_train import seeding
from adaqf_train.generators.noise import Noise
from adaqf_train.generators.requests import Request

TOKENS = 8  # padded batches have a multiple of this many tokens


@dataclass(frozen=True)
class Draw:
    """One motion to make, and the numbers that seed its noise."""

    request: Request
    seed: tuple[int, ...]

    @property
    def frames(self) -> int:
        """Frames of the whole motion."""
        return sum(self.request.frames)


@dataclass(frozen=True)
class Batch:
    """Motions that are sampled together, on one device."""

    text: TextFeatures  # of all their texts, one after another
    mask: Tensor  # (B, T), True = real frame
    noise: Noise  # of each motion; it depends on nothing but the motion's seed
    segments: Sequence[tuple[int, ...]] = ()  # frames of each motion's segments; empty: each motion has one

    @classmethod
    def of(cls, draws: Sequence[Draw], text: TextFeatures) -> Batch:
        """The batch of some draws, given the features of their texts."""
        device = text.mask.device
        frames = torch.tensor([draw.frames for draw in draws])
        mask = torch.arange(int(frames.max())) < frames[:, None]
        noise = Noise(torch.tensor([seeding.mix(*draw.seed) for draw in draws], device=device))
        single = len(text.mask) == len(draws)
        return cls(text, mask.to(device), noise, () if single else [draw.request.frames for draw in draws])

    def padded(self, frames: int, most: int) -> Batch:
        """The same motions of one segment each, in one of a few shapes, which do not change them.

        The number of frames becomes a multiple of `frames` and that of tokens one of TOKENS. The number of motions
        becomes a power of two, but no more than `most`; the rows that this adds repeat the first one.
        """
        B, T = self.mask.shape  # motions, frames
        size = max(B, min(most, 1 << (B - 1).bit_length()))
        rows = torch.arange(size, device=self.mask.device)
        rows = torch.where(rows < B, rows, 0)
        tokens = -self.text.mask.shape[1] % TOKENS
        text = TextFeatures(
            self.text.pooled[rows],
            pad(self.text.tokens, (0, 0, 0, tokens))[rows],
            pad(self.text.mask, (0, tokens))[rows],
        )
        return Batch(text, pad(self.mask, (0, -T % frames))[rows], Noise(self.noise.items[rows]))

    def tensors(self) -> list[Tensor]:
        """Everything that the motions depend on."""
        return [*self.text, self.mask, self.noise.items]


def batches(draws: Sequence[Draw], size: int) -> Iterator[list[int]]:
    """Indices of draws of like length, with at most `size` segments together, but at least one draw."""
    batch: list[int] = []
    held = 0
    for row in sorted(range(len(draws)), key=lambda row: draws[row].frames):
        segments = len(draws[row].request.frames)
        if batch and held + segments > size:
            yield batch
            batch, held = [], 0
        batch.append(row)
        held += segments
    if batch:
        yield batch
