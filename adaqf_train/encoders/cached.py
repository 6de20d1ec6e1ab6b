"""What frozen text networks make of the captions, computed once, before the first step.

The tables depend on the captions alone, not on which of them met in a batch: so a resumed run reads the same numbers,
bit for bit, as an uninterrupted one. Real motions are not kept. Their crops do come again, about nine of each clip, but
what the extractor makes of one differs in the last bits from batch to batch, and 4 % of a step's work is all there is
to save.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adaclip import AdaCLIP, TextFeatures
from adaclip.batching import sub_batches
from adaclip.encoding import PromptEncoder, stack
from adaclip.inference import PromptCache
from adaclip.text import token_ids
from adaqf_train.judges.extractors import TextExtractor

ROWS = 256  # captions that the text extractor reads together


class CaptionFeatures:
    """Text features of captions by a frozen encoder, without dropout, in its weights' own precision.

    Kept in the memory of each process: HumanML3D's 87,384 captions take about 2.5 GB, two kilobytes a token.
    """

    def __init__(self, encoder: AdaCLIP, captions: Sequence[str]) -> None:
        """captions: all that will be asked for. Shows a bar for a thousand or more."""
        self.device, self.sizes = encoder.device, (encoder.projection_size, encoder.hidden_size)
        distinct = list(dict.fromkeys(captions))
        encode = PromptEncoder(
            encoder.merged(),
            0,
            PromptCache(max_bytes=0),
            padding=encoder.tokenizer.pad_token_id,
            eos_token_id=encoder.eos_token_id,
            with_tokens=True,
        )
        rows = [ids for (ids,) in token_ids(encoder.tokenizer, distinct)]
        with torch.no_grad():
            entries = encode(rows, batch_size=ROWS, show_progress_bar=None)
        self._entries = dict(zip(distinct, entries, strict=True))

    def __call__(self, captions: Sequence[str]) -> TextFeatures:
        """Features of B captions on the encoder's device, padded to the longest of them."""
        features = stack([self._entries[caption] for caption in captions], *self.sizes)
        return TextFeatures(*(_sent(part, self.device) for part in features))


class CaptionEmbeddings:
    """Embeddings of captions by the frozen text extractor, on its device: 180 MB for HumanML3D's captions."""

    def __init__(self, extractor: TextExtractor, encoder: AdaCLIP, captions: Sequence[str]) -> None:
        """encoder: whose tokens the extractor reads. captions: all that will be asked for."""
        device = extractor.words.weight.device
        distinct = list(dict.fromkeys(captions))
        lengths = [len(ids) for (ids,) in token_ids(encoder.tokenizer, distinct)]
        self._rows: dict[str, int] = {}
        found = []
        with torch.no_grad():
            for group in sub_batches(lengths, rows=ROWS, tokens=ROWS * max(lengths)):
                texts = [distinct[i] for i in group]
                ids, mask = (part.to(device) for part in encoder.tokenize(texts))
                found.append(extractor(ids, mask))
                self._rows |= {text: len(self._rows) + row for row, text in enumerate(texts)}
        self._embeddings = torch.cat(found)

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (B, E) of B captions."""
        rows = torch.tensor([self._rows[caption] for caption in captions])
        return self._embeddings[_sent(rows, self._embeddings.device)]


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for what it computes."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
