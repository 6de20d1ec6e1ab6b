"""What every judge offers: embeddings of motions and of texts in one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from adaclip.text import tokenize
from adaqf_train.data.batches import pad
from adaqf_train.data.captions import CaptionTable
from adaqf_train.layers import freeze

CAPTIONS = 256  # embedded together


class Judge(nn.Module, ABC):
    """A network that compares motions with texts: extractors, independent evaluators, official evaluators.

    Attributes:
        width: E, of the embeddings.
        cosine: Whether embeddings are compared by their angle alone; else by Euclidean distance.
    """

    width: int
    cosine: bool = False

    @abstractmethod
    def embed_motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Embed normalised features, differentiably.

        Args:
            motion: (B, T, D) as the generator sees them; values beyond a clip's length do not matter.
            mask: (B, T), True = real frame.

        Returns:
            (B, E).
        """

    @abstractmethod
    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed token ids (B, L) with their mask (B, L), True = real token, into (B, E)."""

    def forward(self, ids: Tensor, text_mask: Tensor, motion: Tensor, motion_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed texts and motions: (B, E) each."""
        return self.embed_text(ids, text_mask), self.embed_motion(motion, motion_mask)

    @torch.no_grad()
    def embed_captions(self, captions: CaptionTable) -> Tensor:
        """Embed every row of a table into (N, E), on the judge's device, rows of like length together.

        The order depends on the table alone: a resumed run computes the same bits.
        """
        order = torch.from_numpy(captions.lengths).argsort(stable=True)
        device = next(self.parameters()).device
        found = torch.empty(len(order), self.width, device=device)
        for rows in order.split(CAPTIONS):
            width = int(captions.lengths[rows].max())
            ids, mask = captions.tokens(rows.to(captions.ids.device), width)
            found[rows.to(device)] = self.embed_text(ids.to(device), mask.to(device)).float()
        return found


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
        self.width, self.cosine = self.towers.width, self.towers.cosine
        self._device = next(self.towers.parameters()).device

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
        """Embed de-normalised features (T_i, D), T_i a multiple of 4, into (N, E) float64, in the given order.

        Batches are of motions of like length.
        """
        order = np.argsort([len(motion) for motion in motions], kind="stable")
        result = np.empty((len(motions), self.width))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            motion, mask = pad([(motions[i] - self.mean) / self.std for i in rows])
            result[rows] = self.towers.embed_motion(motion.to(self._device), mask.to(self._device)).cpu()
        return result
