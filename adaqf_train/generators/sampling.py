"""Motions to make, and how they are put together in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaclip import TextFeatures
from adaqf_train import seeding
from adaqf_train.generators.noise import Noise
from adaqf_train.generators.requests import Request


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
    """Motions that are sampled together, with the features of all their texts, one after another."""

    draws: Sequence[Draw]
    text: TextFeatures

    @property
    def mask(self) -> Tensor:
        """(B, T), True = real frame."""
        frames = torch.tensor([draw.frames for draw in self.draws], device=self.text.mask.device)
        return torch.arange(int(frames.max()), device=frames.device) < frames[:, None]

    @property
    def noise(self) -> Noise:
        """The noise of each motion, which depends on nothing but its seed."""
        numbers = [seeding.mix(*draw.seed) for draw in self.draws]
        return Noise(torch.tensor(numbers, device=self.text.mask.device))


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
