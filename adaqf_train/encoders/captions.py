"""Features of a data set's captions under a frozen encoder, computed once, before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from adaclip import AdaCLIP, TextFeatures
from adaclip.encoding import stack
from adaclip.inference import CachedPrompt

CHUNK = 1024  # captions encoded together: token states are padded to the longest of them meanwhile


class FrozenCaptions:
    """Looks up what a frozen encoder computes for captions.

    The last bits of a prompt's features depend on the prompts that are encoded with it, so captions are encoded in
    alphabetical order: a resumed fit reads the same bits. With token states HumanML3D's 87,384 captions take about 3 GB
    of the host's memory; without, 180 MB.
    """

    def __init__(self, encoder: AdaCLIP, captions: Iterable[str], output: Literal["pooled", "both"]) -> None:
        """Encode all captions that will be looked up; "both" keeps token states beside the pooled vectors."""
        self.sizes, self.device = (encoder.projection_size, encoder.hidden_size), encoder.device
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
        """Look up pooled vectors (B, P), on the encoder's device."""
        return self._sent(torch.stack([self._known[caption].pooled for caption in captions]))

    def features(self, captions: Sequence[str]) -> TextFeatures:
        """Look up pooled vectors and token states, padded to the longest caption, on the encoder's device."""
        return TextFeatures(*map(self._sent, stack([self._known[caption] for caption in captions], *self.sizes)))

    def _sent(self, tensor: Tensor) -> Tensor:
        """On the device, without waiting for it."""
        return (tensor.pin_memory() if self.device.type == "cuda" else tensor).to(self.device, non_blocking=True)
