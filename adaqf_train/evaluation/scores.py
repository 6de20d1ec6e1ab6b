"""The figures of one replication: by evaluators, by the body's physics, by what the prompts say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import DataError
from adaqf_train.evaluation import metrics
from adaqf_train.evaluation.attributes import attribute_accuracy
from adaqf_train.evaluation.attributes.parameters import is_unseen
from adaqf_train.evaluation.minimal_pairs import minimal_pair_accuracy
from adaqf_train.judges.evaluators import Evaluator
from adaqf_train.judges.official import T2MEvaluator
from adaqf_train.motion import physics
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import HUMANML3D

OFFICIAL = "official_"  # before the names of the official evaluators' figures
ATTRIBUTE, COVERAGE = "attribute_", "coverage_"  # before those of the attributes
UNSEEN = "unseen_"  # before those of the combinations of action and attributes that training never shows
MILLIMETRES = 1000.0  # per metre


@dataclass(frozen=True)
class Judges:
    """Who scores: the independent evaluator, the feedback's own extractors, and the field's evaluators."""

    evaluator: Evaluator
    extractors: Evaluator | None = None
    official: T2MEvaluator | None = None


@dataclass(frozen=True)
class Asked:
    """The prompts of one replication, in the order in which they share pools."""

    captions: Sequence[str]
    parameters: Sequence[Sequence[dict] | None]  # what procedural clips show; None: the captions say

    @property
    def unseen(self) -> list[int]:
        """Rows that ask for a combination of action and attributes that training never shows."""
        return [row for row, actions in enumerate(self.parameters) if actions and is_unseen(actions)]


def score(
    asked: Asked,
    motions: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    replication: int,
    takes: Sequence[Sequence[np.ndarray]] | None = None,
) -> dict[str, float]:
    """{name of a figure: its value}; figures that the data give no ground for are left out.

    motions: de-normalised features (T_i, D), one a prompt. reference: real ones, any number, for FID, accelerations and
    jerks. takes: as many motions of each of some prompts, for MultiModality.
    """
    for number, motion in enumerate(motions):
        if not np.isfinite(motion).all():
            raise DataError(
                f"Motion {number}, {asked.captions[number]!r}: not finite, so that it cannot be scored. The weights of "
                "the generator are damaged, or its training diverged."
            )
    row = _learned(judges.evaluator, asked, motions, reference, config, replication, takes)
    pairs = minimal_pair_accuracy(judges.evaluator, motions, asked.captions)
    if pairs["count"]:
        row["minimal_pairs"] = pairs["accuracy"]
    if judges.extractors is not None:
        own = judges.extractors
        text, motion = own.embed_texts(asked.captions), own.embed_motions(motions)
        if own.cosine:
            text, motion = unit(text), unit(motion)
        row["r_precision_3_extractors"] = float(metrics.r_precision(text, motion, _pool(config, motions))[2])
    if judges.official is not None:
        figures = _learned(judges.official, asked, motions, reference, config, replication, takes)
        row |= {OFFICIAL + name: value for name, value in figures.items()}
    joints = [decode(motion) for motion in motions]
    return row | _physical(joints, motions, reference, dataset) | _attributes(joints, asked, dataset)


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Rows at length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def _learned(
    evaluator: Evaluator | T2MEvaluator,
    asked: Asked,
    motions: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    config: EvaluationConfig,
    replication: int,
    takes: Sequence[Sequence[np.ndarray]] | None,
) -> dict[str, float]:
    text, motion = evaluator.embed_texts(asked.captions), evaluator.embed_motions(motions)
    pairs = min(config.diversity_pairs, len(motions) // 2)
    rng = np.random.default_rng([config.seed, replication, 1])
    row = {
        "fid": metrics.fid(evaluator.embed_motions(reference), motion),
        **_precision(text, motion, _pool(config, motions)),
        "mm_dist": metrics.mm_dist(text, motion),
        "diversity": metrics.diversity(motion, pairs, rng),
    }
    unseen = asked.unseen
    if len(unseen) >= config.pool:
        found = _precision(text[unseen], motion[unseen], config.pool)
        row |= {UNSEEN + name: value for name, value in found.items()}
    if takes is not None:
        embedded = evaluator.embed_motions([take for of_one in takes for take in of_one])
        embedded = embedded.reshape(len(takes), -1, embedded.shape[1])
        row["multimodality"] = metrics.multimodality(embedded, config.multimodality_pairs, rng)
    return row


def _pool(config: EvaluationConfig, motions: Sequence[np.ndarray]) -> int:
    return min(config.pool, len(motions))


def _precision(text: np.ndarray, motion: np.ndarray, pool: int) -> dict[str, float]:
    return {f"r_precision_{k}": float(v) for k, v in enumerate(metrics.r_precision(text, motion, pool), start=1)}


def _physical(
    joints: Sequence[np.ndarray],
    motions: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    dataset: MotionDataset,
) -> dict[str, float]:
    skeleton, unit_frames = dataset.skeleton, dataset.config.unit_frames
    longest = (dataset.config.max_frames - 1) // unit_frames * unit_frames
    moved = physics.acceleration_distance([decode(motion) for motion in reference], joints, skeleton)
    return {
        "skating": float(np.mean([metrics.skating(clip, skeleton) for clip in joints])),
        "skating_unmasked": metrics.skating_unmasked(motions, dataset.mean, longest),
        **moved,
        "penetration_mm": MILLIMETRES * float(np.mean([physics.penetration(clip, skeleton) for clip in joints])),
        "floating_mm": MILLIMETRES * float(np.mean([physics.floating(clip, skeleton) for clip in joints])),
    }


def _attributes(joints: Sequence[np.ndarray], asked: Asked, dataset: MotionDataset) -> dict[str, float]:
    """Accuracies of all prompts and, where there are some, of those that ask for an unseen combination."""
    if dataset.skeleton is not HUMANML3D:
        return {}
    row: dict[str, float] = {}
    for prefix, rows in (("", range(len(joints))), (UNSEEN, asked.unseen)):
        found = attribute_accuracy(
            [joints[i] for i in rows], [asked.captions[i] for i in rows], [asked.parameters[i] for i in rows]
        )
        for name, cell in found.items():
            if cell["count"]:
                row[f"{prefix}{ATTRIBUTE}{name}"] = cell["accuracy"]
                row[f"{prefix}{COVERAGE}{name}"] = cell["coverage"]
    return row
