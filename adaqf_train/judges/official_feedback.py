"""The official evaluators in the place of the feedback's extractors (Table 7 of the paper)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.judges.base import CAPTIONS, Judge
from adaqf_train.judges.official import FRAMES, UNIT, T2MEvaluator, load_official
from adaqf_train.judges.official_words import tagger


class OfficialJudge(Judge):
    """Embeds the generator's normalised features as `T2MEvaluator` embeds motions, but differentiably.

    The evaluators expect statistics of their own, so features are converted from the generator's first.
    """

    width = 512

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

    def embed_motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Embed normalised features (B, T, D) into (B, 512).

        As in the official loader, zeros follow a clip up to 196 frames, whatever else is in the batch.
        """
        theirs = (motion * self.scale + self.shift).masked_fill(~mask[..., None], 0)
        theirs = pad(theirs, (0, 0, 0, max(0, FRAMES - motion.shape[1])))
        return self.over_time(self.movement(theirs[..., : self.movement.main[0].in_channels]), mask.sum(dim=-1) // UNIT)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        raise NotImplementedError("The official evaluators read words, not token ids: use embed_captions.")

    @torch.no_grad()
    def embed_captions(self, captions: CaptionTable) -> Tensor:
        """Embed every caption of a table into (N, 512), from GloVe vectors and parts of speech."""
        found = []
        for start in range(0, len(captions.texts), CAPTIONS):
            texts = captions.texts[start : start + CAPTIONS]
            encoded = [self.words.encode(self.tokens_of(text)) for text in texts]
            words, tags, lengths = (torch.from_numpy(np.stack(part)) for part in zip(*encoded, strict=True))
            found.append(self.reader(words.to(self.scale.device), tags.to(self.scale.device), lengths))
        return torch.cat(found)
