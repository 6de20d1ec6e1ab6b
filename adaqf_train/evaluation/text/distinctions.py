"""What vectors of texts distinguish, and what they hold to be the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adaqf_train.evaluation.text.contrasts import Contrast, kinds_of

RESAMPLES = 1000  # of the groups, for intervals
ROUNDING = 1e-6  # of cosines of float32 vectors: what differs by less is a tie
UNRELATED = 4  # other groups whose anchors an anchor is compared with

Figure = dict[str, float]  # "mean", "ci95": half of the 95 % interval


def score(contrasts: Sequence[Contrast], vectors: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, Figure]:
    """Score an encoder on contrasts.

    Args:
        contrasts: Of one source.
        vectors: A vector (E,) for each text.
        seed: Of the resampling, and of the choice of unrelated descriptions.

    Returns:
        For each kind, and for "all" kinds (their mean), the share of contrasts whose anchor is nearer to its paraphrase
        than to the paraphrase's own minimal pair, by cosine: both sentences differ from the anchor in their words, and
        one of them in its meaning. Ties are errors, so vectors that are all equal score 0. "strict" is the share whose
        anchor is nearer to its paraphrase than to its own minimal pair, with which it shares nearly all words.
        "difference" and "sameness" are the mean cosine distances to the minimal pair and to the paraphrase, as shares
        of the distance to descriptions of other motions. Intervals resample groups, because contrasts of a group share
        sentences.

    Raises:
        ValueError: A vector is zero, not finite or of another width, or a text has none.
    """
    if missing := [text for contrast in contrasts for text in contrast.texts if text not in vectors]:
        raise ValueError(f"{len(missing)} texts have no vector, such as {missing[0]!r}.")
    unit = {text: _unit(vectors[text], text) for contrast in contrasts for text in contrast.texts}
    if len(widths := {len(vector) for vector in unit.values()}) > 1:
        raise ValueError(f"Vectors have different widths: {', '.join(map(str, sorted(widths)))}.")
    anchor, same, other, other_same = (
        np.stack(part) for part in zip(*([unit[text] for text in each.texts] for each in contrasts), strict=True)
    )
    near, far, matched = ((anchor * part).sum(axis=1) for part in (same, other, other_same))
    right = (near > matched + ROUNDING).astype(float)
    scale = 1 - float(np.mean(_unrelated(contrasts, unit, seed)))
    groups = np.unique([contrast.group for contrast in contrasts], return_inverse=True)[1]
    kind_of = np.array([contrast.kind for contrast in contrasts])
    found = {kind: _mean(right[kind_of == kind], groups[kind_of == kind], seed) for kind in kinds_of(contrasts)}
    halves = [figure["ci95"] for figure in found.values()]
    mean = float(np.mean([figure["mean"] for figure in found.values()]))
    found["all"] = {"mean": mean, "ci95": float(np.linalg.norm(halves) / len(halves))}
    found["strict"] = _mean((near > far + ROUNDING).astype(float), groups, seed)
    found["difference"] = _mean((1 - far) / (scale or 1.0), groups, seed)
    found["sameness"] = _mean((1 - near) / (scale or 1.0), groups, seed)
    return found


def _unit(vector: np.ndarray, text: str) -> np.ndarray:
    vector = np.asarray(vector, np.float64)
    size = np.linalg.norm(vector)
    if vector.ndim != 1 or not np.isfinite(size) or size == 0:
        raise ValueError(f"The vector of {text!r} is zero, not finite or not one-dimensional.")
    return vector / size


def _mean(values: np.ndarray, groups: np.ndarray, seed: int) -> Figure:
    """Mean over groups of their means, with half of its 95 % interval by resampling the groups."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=values) / counts
    draws = np.random.default_rng(seed).integers(len(means), size=(RESAMPLES, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), (0.025, 0.975))
    return {"mean": float(means.mean()), "ci95": float(high - low) / 2}


def _unrelated(contrasts: Sequence[Contrast], unit: Mapping[str, np.ndarray], seed: int) -> list[float]:
    """Cosines of each anchor with anchors of other groups."""
    rng, anchors = np.random.default_rng(seed), [(c.group, c.anchor) for c in contrasts]
    found = []
    for group, anchor in anchors:
        picked = [anchors[i] for i in rng.integers(len(anchors), size=UNRELATED)]
        found += [float(unit[anchor] @ unit[text]) for place, text in picked if place != group]
    return found or [0.0]
