"""The official evaluators in the place of the feedback's extractors (Table 7 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from adaqf_train.data.dataset import MotionDataset
from adaqf_train.judges.official import FRAMES, UNIT, T2MEvaluator, load_official
from adaqf_train.judges.official_words import tagger


class OfficialJudge(nn.Module):
    """Embeds the generator's normalised features as `T2MEvaluator` embeds motions, and differentiably.

    The evaluators expect statistics of their own: features pass from the generator's to theirs on the way.
    """

    def __init__(self, evaluator: T2MEvaluator, mean: np.ndarray, std: np.ndarray) -> None:
        """mean, std: (D,) of the generator's features."""
        super().__init__()
        self.movement, self.over_time, self.reader = evaluator.movement, evaluator.motion, evaluator.text
        self.words, self.tokens_of = evaluator.words, tagger(evaluator.tokens)
        self.register_buffer("scale", torch.from_numpy(np.float32(std / evaluator.std)))
        self.register_buffer("shift", torch.from_numpy(np.float32((mean - evaluator.mean) / evaluator.std)))

    @classmethod
    def load(cls, files: Path, dataset: MotionDataset) -> OfficialJudge:
        """From a folder of the official files; DataError names what is missing or has no parts of speech."""
        return cls(load_official(files, dataset.folder), dataset.mean, dataset.std)

    def motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Embeddings of normalised features: (B, T, D), mask (B, T) True = real -> (B, 512).

        As in the official loader a clip is followed by zeros up to 196 frames, whatever is in the batch with it.
        """
        theirs = (motion * self.scale + self.shift).masked_fill(~mask[..., None], 0)
        theirs = pad(theirs, (0, 0, 0, max(0, FRAMES - motion.shape[1])))
        return self.over_time(self.movement(theirs[..., : self.movement.main[0].in_channels]), mask.sum(dim=-1) // UNIT)

    def captions(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (B, 512) of captions of the data set."""
        encoded = [self.words.encode(self.tokens_of(caption)) for caption in captions]
        words, tags, lengths = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
        return self.reader(words.to(self.scale.device), tags.to(self.scale.device), lengths)
