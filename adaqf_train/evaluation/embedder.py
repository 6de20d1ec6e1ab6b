"""What scoring needs of a judge: embeddings of raw texts and de-normalised motions, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Embedder(Protocol):
    """A judge with everything that it needs to embed texts and motions in one space (`judges.base.Evaluator`)."""

    width: int  # dimensions E of an embedding
    batch: int  # number of texts or motions that are embedded at once
    cosine: bool  # whether embeddings are compared by their angle alone; otherwise by Euclidean distance

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts as float64 (N, E), in the given order."""

    def embed_motions(self, motions: Sequence[np.ndarray]) -> np.ndarray:
        """Embed de-normalised features, (T_i, D) each, T_i a multiple of 4, as float64 (N, E), in the given order."""


@dataclass(frozen=True)
class Judges:
    """The judges that score a generator."""

    evaluator: Embedder  # the independent evaluator; its figures have no prefix
    extractors: Embedder | None = None  # the judge that gave the feedback
    official: Embedder | None = None  # the evaluators of Guo et al. 2022; their figures begin with `scores.OFFICIAL`
    joints: Embedder | None = None  # the second evaluator, of decoded joints; its figures begin with `scores.JOINTS`


def embed_pairs(
    judge: Embedder, captions: Sequence[str], motions: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Embed captions and their motions, (N, E) each; at unit length if the judge compares by angle."""
    rows = judge.embed_texts(captions), judge.embed_motions(motions)
    if judge.cosine:
        text, motion = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows)
        return text, motion
    return rows
