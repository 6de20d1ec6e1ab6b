"""From texts and motions to embeddings that metrics compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from adaclip.text import tokenize
from adaqf_train.data.batches import pad
from adaqf_train.judges.extractors import Extractors
from adaqf_train.judges.matcher import Matcher
from adaqf_train.layers import freeze


@dataclass
class Evaluator:
    """A pair of trained encoders with the statistics their motions are normalised with.

    towers: `Matcher`, the independent evaluator, or `Extractors`, the feedback's own judge.
    """

    towers: Matcher | Extractors
    tokenizer: PreTrainedTokenizerBase
    mean: np.ndarray  # (D,)
    std: np.ndarray  # (D,)
    batch: int = 128

    def __post_init__(self) -> None:
        freeze(self.towers)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, E) float64, in the given order."""
        rows = []
        for start in range(0, len(texts), self.batch):
            ids, mask = tokenize(self.tokenizer, texts[start : start + self.batch])
            rows.append(self._text(ids, mask))
        return torch.cat(rows).double().numpy()

    @torch.no_grad()
    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray:
        """De-normalised features (T_i, D) of each motion -> (N, E) float64, in the given order.

        T_i: a multiple of 4. Motions are embedded in batches of like length.
        """
        order = np.argsort([len(motion) for motion in motions], kind="stable")
        result: list[Tensor] = [torch.empty(0)] * len(motions)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            motion, mask = pad([(motions[i] - self.mean) / self.std for i in rows])
            for i, embedding in zip(rows, self._motion(motion, mask), strict=True):
                result[i] = embedding
        return torch.stack(result).double().numpy()

    @property
    def cosine(self) -> bool:
        """Whether its embeddings are to be compared by angle alone, as InfoNCE trains extractors to be."""
        return isinstance(self.towers, Extractors) and self.towers.config.objective != "margin"

    @property
    def width(self) -> int:
        """E, of its embeddings."""
        head = self.towers.motion_encoder.head if isinstance(self.towers, Matcher) else self.towers.motion.head
        return head[-1].out_features

    @property
    def _device(self) -> torch.device:
        return next(self.towers.parameters()).device

    def _text(self, ids: Tensor, mask: Tensor) -> Tensor:
        tower: nn.Module | object = self.towers.embed_text if isinstance(self.towers, Matcher) else self.towers.text
        return tower(ids.to(self._device), mask.to(self._device)).cpu()

    def _motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        tower = self.towers.embed_motion if isinstance(self.towers, Matcher) else self.towers.motion
        return tower(motion.to(self._device), mask.to(self._device)).cpu()
