"""How well texts retrieve their motions, and motions their texts (Table 8; protocol of TMR, Petrovich et al. 2023)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from adaqf_train.evaluation.metrics import distances, pairs_of

TOPS = (1, 2, 3, 5, 10)
CHUNK = 512  # rows ranked at once
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
    groups = np.arange(len(text)) if groups is None else np.asarray(groups)
    if groups.shape != (len(text),):
        raise ValueError(f"groups: expected {len(text)} numbers, got shape {groups.shape}.")
    ranks: dict[str, list[np.ndarray]] = {"text_to_motion": [], "motion_to_text": []}
    for start in range(0, len(text) - size + 1, size):
        rows = slice(start, start + size)
        far = distances(text[rows], motion[rows])
        ranks["text_to_motion"].append(_ranks(far, groups[rows]))
        ranks["motion_to_text"].append(_ranks(far.T, groups[rows]))
    return {direction: _summary(np.concatenate(found), tops) for direction, found in ranks.items()}


def caption_groups(captions: Sequence[str]) -> np.ndarray:
    """Give captions one number if they differ only in articles, "and", case, punctuation and word order. (N,) int."""
    keys: dict[tuple[str, ...], int] = {}
    contents = ([w for w in re.findall(r"[^\W_]+", caption.lower()) if w not in _FILLERS] for caption in captions)
    return np.array([keys.setdefault(tuple(sorted(words)), len(keys)) for words in contents])


def _ranks(far: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank of the nearest candidate of each row's own group, from 1. far: (C, C), groups: (C,). Returns (C,).

    Counting the candidates before that one (nearer, or equally near and earlier) is four times as fast as sorting.
    """
    positions, alone = np.arange(len(far)), len(np.unique(groups)) == len(groups)
    ranks = np.empty(len(far), dtype=int)
    for start in range(0, len(far), CHUNK):
        chunk = slice(start, start + CHUNK)
        rows = np.ascontiguousarray(far[chunk])
        nearest = positions[chunk]
        if not alone:
            nearest = np.where(groups[chunk, None] == groups, rows, np.inf).argmin(axis=1)
        own = np.take_along_axis(rows, nearest[:, None], axis=1)
        ranks[chunk] = np.count_nonzero(rows < own, axis=1) + 1
        tied = np.flatnonzero(np.count_nonzero(rows == own, axis=1) > 1)
        ranks[chunk][tied] += ((rows[tied] == own[tied]) & (positions < nearest[tied, None])).sum(axis=1)
    return ranks


def _summary(ranks: np.ndarray, tops: Sequence[int]) -> dict[str, float]:
    return {f"r{k}": float((ranks <= k).mean()) for k in tops} | {"median_rank": float(np.median(ranks))}
