"""Minimal pairs: is a motion closer to its own caption than to that caption with one dynamic word flipped?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaqf_train.data.wording import flip_dynamic_word
from adaqf_train.evaluation.embedder import Embedder

LEAST_TRUTH = 0.9  # accuracy on real motions, below which the evaluator itself does not distinguish the captions


def minimal_pair_accuracy(evaluator: Embedder, motions: Sequence[np.ndarray], captions: Sequence[str]) -> float | None:
    """Compute the share of motions that are closer to their own caption than to its flipped version.

    Distances are Euclidean. A tie is an error, so that collapsed embeddings score 0. motions: de-normalised features,
    (T_i, D) each. Captions without a word to flip are not counted; None if all are.
    """
    if len(motions) != len(captions):
        raise ValueError(f"{len(motions)} motions and {len(captions)} captions: give one caption a motion.")
    flipped = [flip_dynamic_word(caption) for caption in captions]
    rows = [i for i, caption in enumerate(flipped) if caption is not None]
    if not rows:
        return None
    motion = evaluator.embed_motions([motions[i] for i in rows])
    # In one call: padding moves an embedding by a rounding error, but equal texts must tie.
    texts = evaluator.embed_texts([*(captions[i] for i in rows), *(flipped[i] for i in rows)])
    own, other = (np.linalg.norm(motion - text, axis=1) for text in (texts[: len(rows)], texts[len(rows) :]))
    if not np.isfinite([own, other]).all():
        raise ValueError("Embeddings hold NaN or infinite values: the captions cannot be compared.")
    return float(np.mean(own < other))


def void_reason(accuracy: float | None) -> str | None:
    """Say why the column of minimal pairs is void, given the accuracy on real motions; None if it is not."""
    if accuracy is None:
        return "no caption of the split has a word to flip"
    if accuracy < LEAST_TRUTH:
        return (
            f"the evaluator prefers the caption to its flipped version for only {accuracy:.2f} of the real motions, "
            f"below {LEAST_TRUTH}"
        )
    return None
