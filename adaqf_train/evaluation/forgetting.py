"""How much of a text encoder's understanding survives its adaptation (A.7, in numbers instead of pictures)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.pocket_clip import StillPoseClip, pose_slice
from adaqf_train.evaluation.retrieval import retrieval


def kept_structure(base: np.ndarray, adapted: np.ndarray) -> dict[str, float]:
    """How alike two encoders see the same prompts: 1 means that nothing of the similarities between them was lost.

    base, adapted: (N, E) and (N, F), embeddings of the same prompts. "spearman", "pearson": correlation of the
    cosine similarities of all pairs; "cka": linear centred kernel alignment (Kornblith et al. 2019), which a rotation
    or a common scale leaves at 1; "cosine" (of equal widths only): mean cosine of each prompt to itself, which a
    rotation does not. ValueError for fewer than three prompts or unequal numbers of them.
    """
    base, adapted = np.asarray(base, np.float64), np.asarray(adapted, np.float64)
    if base.ndim != 2 or adapted.ndim != 2 or len(base) != len(adapted) or len(base) < 3:
        raise ValueError(f"Expected embeddings (N, E), (N, F) of N >= 3 prompts, got {base.shape} and {adapted.shape}.")
    pairs = np.triu_indices(len(base), k=1)
    one, two = _unit(base), _unit(adapted)
    before, after = (one @ one.T)[pairs], (two @ two.T)[pairs]
    kept = {
        "spearman": _correlation(_ranks(before), _ranks(after)),
        "pearson": _correlation(before, after),
        "cka": _cka(base, adapted),
    }
    return kept | ({"cosine": float((one * two).sum(axis=1).mean())} if base.shape == adapted.shape else {})


def still_pose_retrieval(
    encode: Callable[[Sequence[str]], np.ndarray],
    towers: StillPoseClip,
    dataset: MotionDataset,
    *,
    pool: int = 32,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """How well an encoder's prompts find a still pose of their motion, and poses their prompt (see `retrieval`).

    This is what the pocket CLIP was trained for, and all it knows: prompts on other matters are byte salad to it, so
    for it there is nothing else to forget. encode: prompts -> pooled vectors (N, P). towers: of `fit_pose_probe`. With
    the tower that was fitted to the base this asks whether an adapted encoder still speaks the base's language (as an
    image tower would need); with one fitted to the adapted encoder, whether the knowledge is still there at all.
    """
    rng = np.random.default_rng(seed)
    items = [dataset.items[i] for i in rng.permutation(len(dataset))]
    captions = [item.captions[rng.integers(len(item.captions))] for item in items]
    frames = np.stack([dataset.normalise(item.vectors[rng.integers(len(item.vectors))]) for item in items])
    with torch.no_grad():
        poses = towers.pose(torch.from_numpy(frames[:, pose_slice(dataset.features)])).numpy()
    return retrieval(_unit(np.asarray(encode(captions), np.float64)), _unit(poses), pool=min(pool, len(items)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 when either side does not vary: nothing of a structure is left in a constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _cka(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / scale) if scale > 0 else 0.0
