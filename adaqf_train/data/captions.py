"""The captions of a data set as token ids: tokenised once, looked up by row on the device of the training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adaclip.text import pad, token_ids
from adaqf_train.data.wording import flips


class CaptionTable:
    """Distinct captions, and on request each caption with one dynamic word flipped, as rows of token ids."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        captions: Iterable[str],
        *,
        with_flips: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        distinct = list(dict.fromkeys(captions))
        others = {caption: flips(caption) for caption in distinct} if with_flips else {}
        self.texts = list(dict.fromkeys([*distinct, *(text for found in others.values() for text in found)]))  # (N,)
        self.row = {text: row for row, text in enumerate(self.texts)}
        self.flipped = {caption: [self.row[text] for text in found] for caption, found in others.items()}
        rows = [ids for (ids,) in token_ids(tokenizer, self.texts)]
        self.lengths = np.array([len(ids) for ids in rows])  # (N,) tokens, on the host
        self.ids = pad(rows, tokenizer.pad_token_id)[0].to(device)  # (N, L), padded on the right
        self.same = caption_ids(self.texts).to(device)  # (N,), equal for captions that differ in case and space alone
        self._device_lengths = torch.from_numpy(self.lengths).to(device)

    def __getstate__(self) -> dict:
        """For worker processes, which need rows and lengths alone, and must not touch the device."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, Tensor)}

    def tokens(self, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Ids (B, width) of rows (B,), on the table's device, and their mask (B, width), True = real token.

        width: at least as many tokens as the longest of these rows has.
        """
        positions = torch.arange(width, device=rows.device)
        return self.ids[rows, :width], positions < self._device_lengths[rows, None]


def caption_ids(captions: Sequence[str]) -> Tensor:
    """(B,) long, equal for captions that are equal but for case and white space, on any process."""
    texts = (" ".join(caption.lower().split()).encode() for caption in captions)
    return torch.tensor([int.from_bytes(hashlib.blake2b(t, digest_size=8).digest(), signed=True) for t in texts])
