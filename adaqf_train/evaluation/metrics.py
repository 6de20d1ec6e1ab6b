"""The field's metrics as pure functions of arrays (Guo et al. 2022; `utils/metrics.py` of text-to-motion)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaqf_train.motion.features import decode
from adaqf_train.motion.physics import skating
from adaqf_train.motion.skeleton import skeleton_of_width

__all__ = [
    "distances",
    "diversity",
    "fid",
    "mm_dist",
    "multimodality",
    "pairs_of",
    "r_precision",
    "skating",
    "skating_unmasked",
]


def fid(real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance of two Gaussians fitted to embeddings (N, E) and (M, E), in float64.

    The trace of the covariances' square root is that of a symmetric matrix, taken by eigenvalues; rounding
    errors below zero are cut. With fewer rows than dimensions, where the root would magnify the rounding of the
    eigenvalues that are zero, it is the nuclear norm of the centred rows' products, which is the same number.
    ValueError for fewer than two rows, values that are not finite, or unequal widths.
    """
    real, generated = _embeddings(real, "real"), _embeddings(generated, "generated")
    if real.shape[1] != generated.shape[1]:
        raise ValueError(f"FID needs embeddings of one width, got {real.shape[1]} and {generated.shape[1]}.")
    difference = real.mean(axis=0) - generated.mean(axis=0)
    if min(len(real), len(generated)) <= real.shape[1]:
        rows = [(part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in (real, generated)]
        spread = sum(float(np.square(part).sum()) for part in rows)
        cross = np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False).sum()
    else:
        covariances = [np.atleast_2d(np.cov(part.T)) for part in (real, generated)]
        spread = sum(float(np.trace(covariance)) for covariance in covariances)
        root = _square_root(covariances[0])
        cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariances[1] @ root), 0, None)).sum()
    return float(max(difference @ difference + spread - 2 * cross, 0.0))


def r_precision(text: np.ndarray, motion: np.ndarray, pool: int = 32, top: int = 3) -> np.ndarray:
    """Share of texts whose own motion is among the k nearest of its pool, for k = 1..top. Returns (top,).

    text, motion: (N, E), row i a pair; pools are consecutive rows, the incomplete last one is dropped. Ties are
    ranked by position, as upstream's argsort does: collapsed embeddings score chance, not 1.
    """
    text, motion = pairs_of(text, motion)
    if not 1 <= top <= pool <= len(text):
        raise ValueError(f"R-precision needs 1 <= top <= pool <= rows, got {top}, {pool} and {len(text)}.")
    pools = len(text) // pool
    hits = np.zeros(top)
    for start in range(0, pools * pool, pool):
        rows = slice(start, start + pool)
        nearest = np.argsort(distances(text[rows], motion[rows]), axis=1, kind="stable")[:, :top]
        hits += np.cumsum(nearest == np.arange(pool)[:, None], axis=1).sum(axis=0)
    return hits / (pools * pool)


def mm_dist(text: np.ndarray, motion: np.ndarray) -> float:
    """Mean Euclidean distance of each text to its motion. (N, E), (N, E)."""
    text, motion = pairs_of(text, motion)
    return float(np.linalg.norm(text - motion, axis=1).mean())


def diversity(motion: np.ndarray, pairs: int, rng: np.random.Generator) -> float:
    """Mean distance of that many pairs of different motions (N, E), drawn without replacement."""
    motion = _embeddings(motion, "motion")
    if not 1 <= pairs <= len(motion) // 2:
        raise ValueError(f"Diversity needs 1 to {len(motion) // 2} pairs for {len(motion)} motions, got {pairs}.")
    order = rng.permutation(len(motion))
    return float(np.linalg.norm(motion[order[:pairs]] - motion[order[pairs : 2 * pairs]], axis=1).mean())


def multimodality(motion: np.ndarray, pairs: int, rng: np.random.Generator) -> float:
    """Mean distance of motions made from the same text (Guo et al. 2022).

    motion: (texts, repeats, E); pairs: drawn for every text alike. As upstream, the two sides of the pairs are drawn
    apart, each without replacement, so a motion may meet itself.
    """
    motion = np.asarray(motion, dtype=np.float64)
    if motion.ndim != 3 or not len(motion) or not 1 <= pairs <= motion.shape[1]:
        raise ValueError(
            f"MultiModality needs (texts, repeats, width) and 1 to `repeats` pairs, got {motion.shape} and {pairs}."
        )
    if not np.isfinite(motion).all():
        raise ValueError(
            f"motion: embeddings hold NaN or infinity for text {int(np.argwhere(~np.isfinite(motion))[0][0])}."
        )
    first, second = (rng.choice(motion.shape[1], pairs, replace=False) for _ in range(2))
    return float(np.linalg.norm(motion[:, first] - motion[:, second], axis=-1).mean())


def skating_unmasked(motions: Sequence[np.ndarray], padding: np.ndarray, frames: int) -> float:
    """GMD's skating ratio as GMD takes it, over padding and all (Karunratanakul et al. 2023, `utils/metrics.py`).

    motions: de-normalised features (T_i, D); padding: (D,), the data set's mean, which is what a zero-padded batch
    decodes to; frames: the length all are padded to. The mean pose slides along at the mean speed, so short clips look
    worse than they are. For comparison with published figures alone: `skating` on clips cut to their length is right.
    """
    skeleton = skeleton_of_width(len(padding))
    ratios = []
    for motion in motions:
        missing = max(frames - len(motion), 0)
        padded = np.concatenate([motion, np.broadcast_to(padding, (missing, len(padding)))])
        ratios.append(skating(decode(padded.astype(np.float32)), skeleton))
    return float(np.mean(ratios))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, M) of rows. Squares are cut at zero: rounding would make NaN of identical rows.

    Identical rows get identical distances, so that they tie: a matrix product sums them in different orders.
    """
    squared = a @ b.T  # then in place: for a whole test set it is 170 MB
    squared *= -2
    squared += np.square(a).sum(axis=1)[:, None]
    squared += np.square(b).sum(axis=1)
    np.maximum(squared, 0, out=squared)
    found = np.sqrt(squared, out=squared)
    for axis, rows in enumerate((a, b)):
        first = _first_equal(rows)
        if (first != np.arange(len(rows))).any():
            found = found.take(first, axis=axis)
    return found


def _first_equal(rows: np.ndarray) -> np.ndarray:
    """For each row the first one that equals it. (N, E) -> (N,)."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), number) for number, row in enumerate(rows)])


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semi-definite matrix (E, E)."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def _embeddings(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"{name}: expected embeddings (rows, width) with at least 2 rows, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name}: embeddings hold NaN or infinity in row {int(np.argwhere(~np.isfinite(array))[0][0])}."
        )
    return array


def pairs_of(text: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (N, E); ValueError when they are not two finite sets of as many rows."""
    text, motion = _embeddings(text, "text"), _embeddings(motion, "motion")
    if text.shape != motion.shape:
        raise ValueError(f"Texts {text.shape} and motions {motion.shape} are no pairs.")
    return text, motion
