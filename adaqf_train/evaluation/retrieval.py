"""How well texts retrieve their motions, and motions their texts (Table 8; protocol of TMR, Petrovich et al. 2023)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from adaqf_train.evaluation.metrics import pairs_of, pooled_ranks

TOPS = (1, 2, 3, 5, 10)
_FILLERS = {"a", "an", "the", "is", "are", "and"}


def retrieval(
    text: np.ndarray,
    motion: np.ndarray,
    *,
    pool: int | None = None,
    groups: Sequence[int] | None = None,
    tops: Sequence[int] = TOPS,
) -> dict[str, dict[str, float]]:
    """Compute recall at k and the median rank in both directions, by Euclidean distance.

    Args:
        text: Embeddings (N, E) of texts.
        motion: Embeddings (N, E) of their motions.
        pool: Number of candidates: the consecutive rows that a query shares a pool with; the incomplete last pool is
            dropped. None: the whole set.
        groups: (N,) numbers; rows of one number count as right for each other (see `caption_groups`). None: only the
            row itself counts.
        tops: Values of k.

    Returns:
        {"text_to_motion": {"r1": …, "median_rank": …}, "motion_to_text": …}. Recalls are fractions, ranks count from 1,
        ties rank by position.

    Raises:
        ValueError: The rows are not pairs or not finite, or do not fill a pool.
    """
    text, motion = pairs_of(text, motion)
    size = len(text) if pool is None else pool
    if not 1 <= size <= len(text):
        raise ValueError(f"Retrieval needs a pool of 1 to {len(text)} rows, got {pool}.")
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (len(text),):
            raise ValueError(f"groups: expected {len(text)} numbers, got shape {groups.shape}.")
    ranks = pooled_ranks(text, motion, size, groups), pooled_ranks(motion, text, size, groups)
    return {
        direction: {f"r{k}": float((found <= k).mean()) for k in tops} | {"median_rank": float(np.median(found))}
        for direction, found in zip(("text_to_motion", "motion_to_text"), ranks, strict=True)
    }


def caption_groups(captions: Sequence[str]) -> np.ndarray:
    """Give captions one number if they differ only in articles, "and", case, punctuation and word order. (N,) int."""
    keys: dict[tuple[str, ...], int] = {}
    contents = ([w for w in re.findall(r"[^\W_]+", caption.lower()) if w not in _FILLERS] for caption in captions)
    return np.array([keys.setdefault(tuple(sorted(words)), len(keys)) for words in contents])
