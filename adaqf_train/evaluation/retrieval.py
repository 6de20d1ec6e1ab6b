"""How well texts find their motions, and motions their texts (Table 8; TMR's protocol, Petrovich et al. 2023)."""

from __future__ import annotations

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
    """Recall at k and the median rank, both ways: {"text_to_motion": {"r1": …, "median_rank": …}, "motion_to_text": …}.

    text, motion: (N, E), row i a pair. pool: candidates are the `pool` consecutive rows a query is in (the incomplete
    last pool is dropped); None: the whole set. groups: (N,), rows with one number count as right for each other (see
    `caption_groups`); None: only the own row does. Recalls are fractions, ranks count from 1, ties rank by position.
    ValueError for embeddings that are no pairs or a pool they do not fill.
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
    return {way: _summary(np.concatenate(found), tops) for way, found in ranks.items()}


def caption_groups(captions: Sequence[str]) -> np.ndarray:
    """One number for captions that say the same but for articles, "and", case, punctuation and order. (N,) int."""
    keys: dict[tuple[str, ...], int] = {}
    numbers = []
    for caption in captions:
        words = "".join(c if c.isalnum() else " " for c in caption.lower()).split()
        key = tuple(sorted(word for word in words if word not in _FILLERS))
        numbers.append(keys.setdefault(key, len(keys)))
    return np.array(numbers)


def _ranks(far: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank of the nearest candidate of each row's own group. far: (C, C), groups: (C,). Returns (C,), from 1.

    Counts what lies before that candidate, nearer or as near and earlier, instead of sorting: four times as fast.
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
    recalls = {f"r{k}": float((ranks <= k).mean()) for k in tops}
    return recalls | {"median_rank": float(np.median(ranks))}
