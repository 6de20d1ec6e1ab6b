"""How much of a text encoder's understanding survives its adaptation (appendix A.7, in numbers instead of pictures)."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np
import torch
from scipy.stats import rankdata

from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.pocket_clip import StillPoseClip, pose_slice
from adaqf_train.evaluation.retrieval import retrieval

_KINDS = tomllib.loads(files(__package__).joinpath("general_prompts.toml").read_text(encoding="utf-8"))
GENERAL_PROMPTS = tuple(prompt for kind in _KINDS.values() for prompt in kind)


def kept_structure(base: np.ndarray, adapted: np.ndarray) -> dict[str, float]:
    """Measure how much of the similarities between prompts an adapted encoder keeps; 1 means all of it.

    base, adapted: embeddings (N, E) and (N, F) of the same prompts. "spearman" and "pearson" correlate the cosine
    similarities of all pairs. "cka" is the linear centred kernel alignment (Kornblith et al. 2019), which rotation and
    scaling leave at 1. "cosine", for equal widths only, is the mean cosine between a prompt's two embeddings, which
    rotation lowers.
    """
    base, adapted = np.asarray(base, np.float64), np.asarray(adapted, np.float64)
    if base.ndim != 2 or adapted.ndim != 2 or len(base) != len(adapted) or len(base) < 3:
        raise ValueError(f"Expected embeddings (N, E), (N, F) of N >= 3 prompts, got {base.shape} and {adapted.shape}.")
    pairs = np.triu_indices(len(base), k=1)
    one, two = _unit(base), _unit(adapted)
    before, after = (one @ one.T)[pairs], (two @ two.T)[pairs]
    left, right = base - base.mean(axis=0), adapted - adapted.mean(axis=0)
    scale = np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right)
    kept = {
        "spearman": _correlation(rankdata(before), rankdata(after)),
        "pearson": _correlation(before, after),
        "cka": float(np.linalg.norm(left.T @ right) ** 2 / scale) if scale > 0 else 0.0,
    }
    return kept | ({"cosine": float((one * two).sum(axis=1).mean())} if base.shape == adapted.shape else {})


def still_pose_retrieval(
    encode: Callable[[Sequence[str]], np.ndarray], towers: StillPoseClip, dataset: MotionDataset
) -> dict[str, dict[str, float]]:
    """Measure with `retrieval` how well an encoder's prompts find a still pose of their motion, and poses their prompt.

    This is the task that the pocket CLIP was trained on; it never learnt other subjects that it could forget. With a
    pose tower fitted to the base encoder (`fit_pose_probe`), the figure shows whether the adapted encoder's space is
    still compatible, as an image tower would need. With one fitted to the adapted encoder, it shows whether the
    knowledge is still there. One prompt and one frame per item are drawn.
    """
    rng = np.random.default_rng(0)
    items = [dataset.items[i] for i in rng.permutation(len(dataset))]
    captions = [item.captions[rng.integers(len(item.captions))] for item in items]
    frames = np.stack([dataset.normalise(item.vectors[rng.integers(len(item.vectors))]) for item in items])
    with torch.no_grad():
        poses = towers.pose(torch.from_numpy(frames[:, pose_slice(dataset.features)])).numpy()
    return retrieval(_unit(np.asarray(encode(captions), np.float64)), _unit(poses), pool=min(32, len(items)))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's; 0 when either side is constant, because a constant keeps nothing of a structure."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0
