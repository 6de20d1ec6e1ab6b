"""Minimal pairs: is a motion closer to its own caption than to the caption with one dynamic word flipped?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from adaqf_train.data.wording import flip_dynamic_word

LEAST_TRUTH = 0.9  # of real motions: below, the evaluator itself cannot tell a caption from its flip


class Embeds(Protocol):
    """What of an evaluator is needed (`evaluators.Evaluator` has it)."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray: ...

    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray: ...


def minimal_pair_accuracy(
    evaluator: Embeds, motions: Sequence[np.ndarray], captions: Sequence[str]
) -> dict[str, float | int | None]:
    """{"accuracy", "count"} over the motions whose caption has a word to flip.

    motions: de-normalised features (T_i, D), T_i a multiple of 4. By Euclidean distance; a tie counts as wrong, so that
    collapsed embeddings score 0. accuracy is None when no caption has such a word. ValueError for unequal numbers.
    """
    if len(motions) != len(captions):
        raise ValueError(f"{len(motions)} motions and {len(captions)} captions: give one caption a motion.")
    flipped = [flip_dynamic_word(caption) for caption in captions]
    rows = [i for i, caption in enumerate(flipped) if caption is not None]
    if not rows:
        return {"accuracy": None, "count": 0}
    motion = evaluator.embed_motions([motions[i] for i in rows])
    # In one call: padding moves an embedding by a rounding error, and equal texts are to tie.
    texts = evaluator.embed_texts([*(captions[i] for i in rows), *(flipped[i] for i in rows)])
    own, other = (np.linalg.norm(motion - text, axis=1) for text in (texts[: len(rows)], texts[len(rows) :]))
    if not (np.isfinite(own).all() and np.isfinite(other).all()):
        raise ValueError("Embeddings hold NaN or infinite values: no pair can be told.")
    return {"accuracy": float(np.mean(own < other)), "count": len(rows)}


def void_reason(truth: dict[str, float | int | None]) -> str | None:
    """Why the column of minimal pairs means nothing with this ground-truth row; None if it does."""
    accuracy = truth["accuracy"]
    if accuracy is None:
        return "no caption of the split has a word to flip"
    if accuracy < LEAST_TRUTH:
        return f"the evaluator tells {accuracy:.2f} of the real motions' captions from their flips, below {LEAST_TRUTH}"
    return None
