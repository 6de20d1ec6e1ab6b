"""The field's metrics as pure functions of arrays (Guo et al. 2022; `utils/metrics.py` of text-to-motion)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaqf_train.motion.features import decode
from adaqf_train.motion.physics import skating
from adaqf_train.motion.skeleton import skeleton_of_width

FEWEST_ROWS = 4  # of each set, from which FID can be extrapolated
KERNEL_ROWS = 1024  # of a block of the kernel matrix: 40 MB for a test set of 4,640


def fid(real: np.ndarray, generated: np.ndarray) -> float:
    """Compute the Fréchet distance (Heusel et al. 2017) between Gaussians fitted to embeddings, in float64.

    real, generated: (N, E) and (M, E). With FᵀF and GᵀG the covariances (F and G are the triangular factors of the
    centred rows), the trace of the square root of their product is the nuclear norm of FGᵀ. That takes no square root
    of a matrix, whose rounding errors spoil upstream's figure for fewer rows than dimensions.
    """
    parts = _embeddings(real, "real"), _embeddings(generated, "generated")
    if parts[0].shape[1] != parts[1].shape[1]:
        raise ValueError(f"FID needs embeddings of one width, got {parts[0].shape[1]} and {parts[1].shape[1]}.")
    difference = parts[0].mean(axis=0) - parts[1].mean(axis=0)
    centred = [(part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in parts]
    spread = sum(float(np.square(part).sum()) for part in centred)
    f, g = (np.linalg.qr(part, mode="r") for part in centred)
    return float(max(difference @ difference + spread - 2 * np.linalg.norm(f @ g.T, "nuc"), 0.0))


def fid_normalised(real: np.ndarray, generated: np.ndarray) -> float:
    """Compute the Fréchet distance of embeddings that are scaled to unit length, as in Motius; arguments as in `fid`.

    The raw distance grows with the square of the embeddings' scale, which differs between evaluators; this one is
    between 0 and 4.
    """
    return fid(*(_unit(_embeddings(part, name)) for part, name in ((real, "real"), (generated, "generated"))))


def fid_infinity(real: np.ndarray, generated: np.ndarray, rng: np.random.Generator, full: float | None = None) -> float:
    """Extrapolate the FID to infinitely many samples (Chong and Forsyth 2020).

    The bias of the FID is proportional to 1/n, for both sets. A line through the FID of all rows, of three quarters of
    both sets, and of their two halves gives its value at 1/n = 0. That value is noisier than the FID, and may lie below
    0 if the distributions are equal. full: the FID of all rows, if it is known; other arguments as in `fid`.
    """
    parts = _embeddings(real, "real"), _embeddings(generated, "generated")
    if min(map(len, parts)) < FEWEST_ROWS:
        sizes = ", ".join(str(len(part)) for part in parts)
        raise ValueError(f"An extrapolated FID needs at least {FEWEST_ROWS} rows of both sets, got {sizes}.")
    orders = [rng.permutation(len(part)) for part in parts]

    def of(start: float, stop: float) -> float:
        rows = [order[round(start * len(order)) : round(stop * len(order))] for order in orders]
        return fid(*(part[chosen] for part, chosen in zip(parts, rows, strict=True)))

    found = [fid(*parts) if full is None else full, of(0, 0.75), (of(0, 0.5) + of(0.5, 1)) / 2]
    return float(np.polynomial.Polynomial.fit([1, 4 / 3, 2], found, 1)(0))


def kid(real: np.ndarray, generated: np.ndarray) -> float:
    """Compute the kernel distance (Bińkowski et al. 2018): the unbiased estimate of MMD² with the kernel (xᵀy/E + 1)³.

    Its expectation does not depend on the number of samples; it is 0 for equal distributions, and an estimate may lie
    below. real, generated: (N, E) and (M, E).
    """
    x, y = _embeddings(real, "real"), _embeddings(generated, "generated")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"KID needs embeddings of one width, got {x.shape[1]} and {y.shape[1]}.")

    def total(a: np.ndarray, b: np.ndarray) -> float:
        blocks = (a[start : start + KERNEL_ROWS] @ b.T for start in range(0, len(a), KERNEL_ROWS))
        return float(sum(((block / a.shape[1] + 1) ** 3).sum() for block in blocks))

    def within(a: np.ndarray) -> float:
        own = float(((np.square(a).sum(axis=1) / a.shape[1] + 1) ** 3).sum())
        return (total(a, a) - own) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))


def r_precision(text: np.ndarray, motion: np.ndarray, pool: int = 32, top: int = 3) -> np.ndarray:
    """Compute the share of texts whose own motion is among the k nearest of its pool, for k = 1 to `top`.

    text, motion: (N, E), rows are pairs. Pools are consecutive rows; the incomplete last one is dropped. Ties rank by
    position, as upstream's argsort ranks them: collapsed embeddings score chance, not 1.
    """
    text, motion = pairs_of(text, motion)
    if not 1 <= top <= pool <= len(text):
        raise ValueError(f"R-precision needs 1 <= top <= pool <= rows, got {top}, {pool} and {len(text)}.")
    ranks = pooled_ranks(text, motion, pool)
    return (ranks[:, None] <= np.arange(1, top + 1)).mean(axis=0)


def mm_dist(text: np.ndarray, motion: np.ndarray) -> float:
    """Compute the mean Euclidean distance between embeddings of texts (N, E) and of their motions (N, E)."""
    text, motion = pairs_of(text, motion)
    return float(np.linalg.norm(text - motion, axis=1).mean())


def diversity(motion: np.ndarray, pairs: int, rng: np.random.Generator) -> float:
    """Compute the mean Euclidean distance between random pairs of motions (N, E), drawn without replacement."""
    motion = _embeddings(motion, "motion")
    if not 1 <= pairs <= len(motion) // 2:
        raise ValueError(f"Diversity needs 1 to {len(motion) // 2} pairs for {len(motion)} motions, got {pairs}.")
    order = rng.permutation(len(motion))
    return float(np.linalg.norm(motion[order[:pairs]] - motion[order[pairs : 2 * pairs]], axis=1).mean())


def multimodality(motion: np.ndarray, pairs: int, rng: np.random.Generator) -> float:
    """Compute the mean Euclidean distance between motions of the same text, (texts, repeats, E) (Guo et al. 2022).

    Like upstream, this draws the two sides of the pairs independently, each without replacement: a motion can be paired
    with itself. All texts use the same pairs.
    """
    shape = np.shape(motion)
    if len(shape) != 3 or not 1 <= pairs <= shape[1]:
        raise ValueError(
            f"MultiModality needs (texts, repeats, width) and 1 to `repeats` pairs, got {shape} and {pairs}."
        )
    motion = _embeddings(np.reshape(motion, (-1, shape[2])), "motion").reshape(shape)
    first, second = (rng.choice(motion.shape[1], pairs, replace=False) for _ in range(2))
    return float(np.linalg.norm(motion[:, first] - motion[:, second], axis=-1).mean())


def skating_unmasked(motions: Sequence[np.ndarray], padding: np.ndarray, frames: int) -> float:
    """Compute GMD's skating ratio as GMD does, on padded clips (Karunratanakul et al. 2023, `utils/metrics.py`).

    A zero-padded batch de-normalises to the mean of the data set, `padding` (D,), and decodes to a mean pose that
    slides at the mean speed, so short clips look worse than they are. Use this only to compare with published figures;
    `physics.skating` of clips cut to their length is right. frames: length to which all clips are padded. motions:
    de-normalised features, (T_i, D) each.
    """
    skeleton = skeleton_of_width(len(padding))
    ratios = []
    for motion in motions:
        missing = max(frames - len(motion), 0)
        padded = np.concatenate([motion, np.broadcast_to(padding, (missing, len(padding)))])
        ratios.append(skating(decode(padded.astype(np.float32)), skeleton))
    return float(np.mean(ratios))


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute Euclidean distances (N, M) between rows (N, E) and (M, E).

    Squares are cut at zero, because rounding would make the distance of identical rows NaN. Rows that are identical get
    identical distances and tie, although a matrix product sums each row in its own order.
    """
    squared = a @ b.T  # in place from here on: for a whole test set this is 170 MB
    squared *= -2
    squared += np.square(a).sum(axis=1)[:, None]
    squared += np.square(b).sum(axis=1)
    np.maximum(squared, 0, out=squared)
    found = np.sqrt(squared, out=squared)
    for axis, rows in enumerate((a, b)):
        seen: dict[bytes, int] = {}
        first_equal = [seen.setdefault(row.tobytes(), number) for number, row in enumerate(rows)]
        if len(seen) < len(rows):
            found = found.take(first_equal, axis=axis)
    return found


def pooled_ranks(
    queries: np.ndarray, candidates: np.ndarray, pool: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Rank the nearest right candidate of each query, from 1, among the candidates of its pool.

    Row i of the candidates (N, E) is right for query i (N, E), and so are rows with the same number in `groups` (N,).
    Pools are consecutive rows; the incomplete last one is dropped. Ties rank by position.
    """
    ranks, positions = [], np.arange(pool)
    for start in range(0, len(queries) - pool + 1, pool):
        rows = slice(start, start + pool)
        far, right = distances(queries[rows], candidates[rows]), positions
        if groups is not None:
            right = np.where(groups[rows, None] == groups[rows], far, np.inf).argmin(axis=1)
        own = far[positions, right][:, None]
        # Counting the candidates before the right one is four times as fast as sorting.
        before = np.count_nonzero(far < own, axis=1)
        for row in np.flatnonzero(np.count_nonzero(far == own, axis=1) > 1):
            before[row] += np.count_nonzero(far[row, : right[row]] == own[row])
        ranks.append(before + 1)
    return np.concatenate(ranks)


def pairs_of(text: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float64 (N, E); ValueError if they are not finite or not of one shape."""
    text, motion = _embeddings(text, "text"), _embeddings(motion, "motion")
    if text.shape != motion.shape:
        raise ValueError(f"Texts {text.shape} and motions {motion.shape} are no pairs.")
    return text, motion


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows at unit length; zero stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)


def _embeddings(array: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2:
        raise ValueError(f"{name}: expected embeddings (rows, width) with at least 2 rows, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: embeddings hold NaN or infinity in row {np.argwhere(~np.isfinite(array))[0][0]}.")
    return array
