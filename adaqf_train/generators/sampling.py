"""From checked requests to normalised features: each text encoded once, motions of like length sampled together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaclip import AdaCLIP, TextFeatures
from adaclip.text import LongPrompts
from adaqf_train import seeding
from adaqf_train.config import SamplingConfig
from adaqf_train.generators.diffusion import Diffusion, Predict
from adaqf_train.generators.guidance import Guided
from adaqf_train.generators.long_motion import Blended, windows
from adaqf_train.generators.mdm.denoiser import Denoiser
from adaqf_train.generators.requests import Request


@dataclass(frozen=True)
class Draw:
    """One motion to make, and the numbers its generator is seeded with."""

    request: Request
    seed: tuple[int, ...]

    @property
    def frames(self) -> int:
        return sum(self.request.frames)


@dataclass(frozen=True)
class Sampler:
    """The networks, with the settings of a call."""

    encoder: AdaCLIP
    denoiser: Denoiser
    diffusion: Diffusion
    features: int  # D
    margin: int  # frames by which the window of a segment reaches past a seam
    settings: SamplingConfig
    long: LongPrompts = "warn"
    on_step: Callable[[], None] = lambda: None  # called after every step of every batch
    condition: Callable[[Predict], Predict] = lambda predict: predict  # what else the prediction is held to

    @torch.no_grad()
    def __call__(self, draws: Sequence[Draw]) -> list[Tensor]:
        """Normalised features (T_i, D) of each draw, float32 on the CPU."""
        place = {text: i for i, text in enumerate(dict.fromkeys(t for draw in draws for t in draw.request.texts))}
        text = self._encode(list(place))
        motions: list[Tensor | None] = [None] * len(draws)
        for rows in _batches(draws, self.settings.batch):
            batch = [draws[row] for row in rows]
            needed = torch.tensor([place[t] for draw in batch for t in draw.request.texts], device=text.mask.device)
            for row, x in zip(rows, self._sample(batch, TextFeatures(*(part[needed] for part in text))), strict=True):
                motions[row] = x[: draws[row].frames]
        return motions

    def _sample(self, batch: Sequence[Draw], text: TextFeatures) -> Tensor:
        """text: of all segments of the batch, one after another. Returns (B, T, D)."""
        device = text.mask.device
        blend = Blended([windows(draw.request.frames, self.margin) for draw in batch], device)
        predict: Predict = Guided(self.denoiser, text, blend.mask, float(self.settings.guidance))
        if len(text.mask) > len(batch):
            predict = blend.over(predict)
        frames = torch.tensor([draw.frames for draw in batch], device=device)
        return self.diffusion.sample(
            self.condition(predict),
            torch.arange(blend.frames, device=device) < frames[:, None],
            self.features,
            steps=self.settings.steps,
            scheduler=self.settings.scheduler,
            generators=[seeding.generator(*draw.seed) for draw in batch],
            on_step=self.on_step,
        ).cpu()

    def _encode(self, texts: Sequence[str]) -> TextFeatures:
        """Features on the denoiser's device and in its precision."""
        weight = next(self.denoiser.parameters())
        text = self.encoder.encode(texts, output="both", long=self.long)
        return TextFeatures(text.pooled.to(weight), text.tokens.to(weight), text.mask.to(weight.device))


def _batches(draws: Sequence[Draw], size: int) -> Iterator[list[int]]:
    """Places of draws of like length, `size` windows at a time at most, but never no draw."""
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
