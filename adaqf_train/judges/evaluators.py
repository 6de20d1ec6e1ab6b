"""From texts and motions to embeddings that metrics compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adaclip.text import tokenize
from adaqf_train.data.batches import pad
from adaqf_train.judges.base import Judge
from adaqf_train.layers import freeze


@dataclass
class Evaluator:
    """A judge with the tokenizer and the statistics that prepare its input."""

    towers: Judge
    tokenizer: PreTrainedTokenizerBase
    mean: np.ndarray  # (D,)
    std: np.ndarray  # (D,)
    batch: int = 128

    def __post_init__(self) -> None:
        freeze(self.towers)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts into (N, E) float64, in the given order."""
        rows = []
        for start in range(0, len(texts), self.batch):
            ids, mask = tokenize(self.tokenizer, texts[start : start + self.batch])
            rows.append(self.towers.embed_text(ids.to(self._device), mask.to(self._device)).cpu())
        return torch.cat(rows).double().numpy()

    @torch.no_grad()
    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray:
        """Embed motions, batches of like length together.

        Args:
            motions: De-normalised features (T_i, D) of each; T_i is a multiple of 4.

        Returns:
            (N, E) float64, in the given order.
        """
        order = np.argsort([len(motion) for motion in motions], kind="stable")
        result: list[Tensor] = [torch.empty(0)] * len(motions)
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            motion, mask = pad([(motions[i] - self.mean) / self.std for i in rows])
            embeddings = self.towers.embed_motion(motion.to(self._device), mask.to(self._device)).cpu()
            for i, embedding in zip(rows, embeddings, strict=True):
                result[i] = embedding
        return torch.stack(result).double().numpy()

    @property
    def cosine(self) -> bool:
        """Whether embeddings are compared by their angle alone."""
        return self.towers.cosine

    @property
    def width(self) -> int:
        """E, of the embeddings."""
        return self.towers.width

    @property
    def _device(self) -> torch.device:
        return next(self.towers.parameters()).device
