"""How well texts find their motions, and motions their texts (Table 8; TMR's protocol, Petrovich et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaqf_train.evaluation.metrics import distances, pairs_of

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
        far, right = distances(text[rows], motion[rows]), groups[rows][:, None] == groups[rows]
        ranks["text_to_motion"].append(_ranks(far, right))
        ranks["motion_to_text"].append(_ranks(far.T, right))
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


def _ranks(far: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rank of the nearest right candidate of each row. far, right: (Q, C). Returns (Q,), from 1."""
    order = np.argsort(far, axis=1, kind="stable")
    return np.take_along_axis(right, order, axis=1).argmax(axis=1) + 1


def _summary(ranks: np.ndarray, tops: Sequence[int]) -> dict[str, float]:
    recalls = {f"r{k}": float((ranks <= k).mean()) for k in tops}
    return recalls | {"median_rank": float(np.median(ranks))}
