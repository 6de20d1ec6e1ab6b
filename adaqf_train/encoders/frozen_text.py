"""Features of a data set's captions under a frozen encoder, computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from adaclip import AdaCLIP, TextFeatures
from adaclip.encoding import stack
from adaclip.inference import CachedPrompt

CHUNK = 1024  # captions encoded together: token states are padded to the longest of them meanwhile


class FrozenText:
    """Looks captions up. They are encoded in alphabetical order, so that a resumed fit reads the same bits.

    What an encoder gives for a prompt depends in its last bits on which prompts it is encoded with.
    """

    def __init__(self, encoder: AdaCLIP, captions: Iterable[str], output: Literal["pooled", "both"]) -> None:
        """output: "both" keeps token states too, on HumanML3D about 3 GB of them, on the CPU."""
        self.sizes = encoder.projection_size, encoder.hidden_size
        self._known: dict[str, CachedPrompt] = {}
        ordered = sorted(set(captions))
        encoder.forget()
        for start in range(0, len(ordered), CHUNK):
            chunk = ordered[start : start + CHUNK]
            if output == "pooled":
                found = [CachedPrompt(0, row, None) for row in encoder.encode(chunk, show_progress_bar=False)]
            else:
                pooled, tokens, mask = encoder.encode(chunk, output="both", show_progress_bar=False)
                lengths = mask.sum(dim=-1).tolist()
                found = [CachedPrompt(n, pooled[i], tokens[i, :n].clone()) for i, n in enumerate(lengths)]
            self._known.update(zip(chunk, found, strict=True))
        encoder.forget()

    def pooled(self, captions: Sequence[str]) -> Tensor:
        """Pooled vectors (B, P), on the CPU. KeyError for a caption that was not encoded."""
        return torch.stack([self._known[caption].pooled for caption in captions])

    def features(self, captions: Sequence[str]) -> TextFeatures:
        """Pooled vectors and token states, padded to the longest caption, on the CPU."""
        return stack([self._known[caption] for caption in captions], *self.sizes)
