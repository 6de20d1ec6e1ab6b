"""What every judge offers: embeddings of motions and of texts in one space."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from adaqf_train.data.captions import CaptionTable

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
        """Embed every row of a table into (N, E), on the judge's device.

        Rows of like length are embedded together, in an order that depends on the table alone: a resumed run computes
        the same bits.
        """
        order = torch.from_numpy(captions.lengths).argsort(stable=True)
        device = next(self.parameters()).device
        found = torch.empty(len(order), self.width, device=device)
        for rows in order.split(CAPTIONS):
            width = int(captions.lengths[rows].max())
            ids, mask = captions.tokens(rows.to(captions.ids.device), width)
            found[rows.to(device)] = self.embed_text(ids.to(device), mask.to(device)).float()
        return found
