"""The figures of one replication: judges' metrics, physics of the body, accuracy of the attributes in prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.wording import flip_dynamic_word
from adaqf_train.errors import DataError
from adaqf_train.evaluation import metrics
from adaqf_train.evaluation.attributes import attribute_accuracy
from adaqf_train.evaluation.attributes.parameters import is_unseen
from adaqf_train.evaluation.embedder import Embedder, Judges, embed_pairs
from adaqf_train.motion import physics
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import HUMANML3D

# Prefixes of figures: by the official evaluators; by the second evaluator; of attributes; on combinations of action and
# attributes that are not in the training split.
JOINTS = "joints_"
OFFICIAL, ATTRIBUTE, COVERAGE, UNSEEN = "official_", "attribute_", "coverage_", "unseen_"


@dataclass(frozen=True)
class CaptionedMotions:
    """Motions and their captions, in the order in which they share pools."""

    captions: Sequence[str]
    motions: Sequence[np.ndarray]  # de-normalised features, (T_i, D) each
    parameters: Sequence[Sequence[dict] | None]  # the actions of procedural clips; None: read the caption instead

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def lengths(self) -> list[int]:
        """Frames of each."""
        return [len(motion) for motion in self.motions]

    def take(self, rows: Sequence[int]) -> CaptionedMotions:
        return CaptionedMotions(*([part[i] for i in rows] for part in (self.captions, self.motions, self.parameters)))


def score(
    scored: CaptionedMotions,
    reference: Sequence[np.ndarray],
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    replication: int,
    takes: Sequence[Sequence[np.ndarray]] | None = None,
    real: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Compute all figures of one replication that the data determine; DataError if a motion is not finite.

    reference: de-normalised features, (T_i, D) each, of any number of real motions, for FID, acceleration and jerk.
    takes: equally many motions for each of some captions, for MultiModality. real: the real motions for acceleration
    and jerk, if the reference has more than that takes. With the configuration's seed, the number
    of the replication determines all draws.
    """
    check_finite(scored)
    row = learned(judges.evaluator, scored, reference, config, replication, takes)
    pairs = minimal_pair_accuracy(judges.evaluator, scored.motions, scored.captions)
    if pairs is not None:
        row["minimal_pairs"] = pairs
    if judges.extractors is not None:
        text, motion = embed_pairs(judges.extractors, scored.captions, scored.motions)
        row["r_precision_3_extractors"] = _precision(text, motion, config)["r_precision_3"]
    for prefix, judge in ((OFFICIAL, judges.official), (JOINTS, judges.joints)):
        if judge is not None:
            figures = learned(judge, scored, reference, config, replication, takes)
            row |= {prefix + name: value for name, value in figures.items()}
    joints, skeleton = [decode(motion) for motion in scored.motions], dataset.skeleton
    longest = (dataset.config.max_frames - 1) // dataset.config.unit_frames * dataset.config.unit_frames
    row |= {
        **physics.measure(joints, skeleton),
        "skating_unmasked": metrics.skating_unmasked(scored.motions, dataset.mean, longest),
        **physics.acceleration_distance([decode(motion) for motion in real or reference], joints, skeleton),
    }
    return row | _attributes(joints, scored, dataset)


def score_unseen(
    scored: CaptionedMotions,
    reference: Sequence[np.ndarray],
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    replication: int,
) -> dict[str, float]:
    """Compute the figures of a set of unseen combinations, with the prefix `UNSEEN`; arguments as in `score`."""
    check_finite(scored)
    config = replace(config, pool=min(config.pool, len(scored)))
    row = {
        UNSEEN + name: value
        for name, value in learned(judges.evaluator, scored, reference, config, replication).items()
        if not name.startswith(UNSEEN)
    }
    joints = [decode(motion) for motion in scored.motions]
    attributes = _attributes(joints, scored, dataset)
    return row | {name: value for name, value in attributes.items() if name.startswith(UNSEEN)}


def check_finite(scored: CaptionedMotions) -> None:
    """Raise DataError if a motion is not finite."""
    for number, motion in enumerate(scored.motions):
        if not np.isfinite(motion).all():
            raise DataError(
                f"Motion {number}, {scored.captions[number]!r}: cannot be scored, its values are not finite. The "
                "weights of the generator are damaged, or its training diverged."
            )


def minimal_pair_accuracy(evaluator: Embedder, motions: Sequence[np.ndarray], captions: Sequence[str]) -> float | None:
    """Compute the share of motions that are closer to their own caption than to its flipped version.

    Distances are Euclidean. A tie is an error, so that collapsed embeddings score 0. motions: de-normalised features,
    (T_i, D) each. Captions without a word to flip are not counted; None if all are.
    """
    if len(motions) != len(captions):
        raise ValueError(f"{len(motions)} motions and {len(captions)} captions: give one caption a motion.")
    flipped = [flip_dynamic_word(caption) for caption in captions]
    rows = [i for i, caption in enumerate(flipped) if caption is not None]
    if not rows:
        return None
    motion = evaluator.embed_motions([motions[i] for i in rows])
    # In one call: padding moves an embedding by a rounding error, but equal texts must tie.
    texts = evaluator.embed_texts([*(captions[i] for i in rows), *(flipped[i] for i in rows)])
    own, other = (np.linalg.norm(motion - text, axis=1) for text in (texts[: len(rows)], texts[len(rows) :]))
    if not np.isfinite([own, other]).all():
        raise ValueError("Embeddings hold NaN or infinite values: the captions cannot be compared.")
    return float(np.mean(own < other))


def learned(
    judge: Embedder,
    scored: CaptionedMotions,
    reference: Sequence[np.ndarray],
    config: EvaluationConfig,
    replication: int,
    takes: Sequence[Sequence[np.ndarray]] | None = None,
) -> dict[str, float]:
    """Compute the figures of one judge alone: FID, R-precision, MM-dist, Diversity; arguments as in `score`."""
    text, motion = judge.embed_texts(scored.captions), judge.embed_motions(scored.motions)
    rng = np.random.default_rng([config.seed, replication, 1])
    row = {
        **distances_to(judge.embed_motions(reference), motion, (config.seed, replication)),
        **_precision(text, motion, config),
        "mm_dist": metrics.mm_dist(text, motion),
        "diversity": metrics.diversity(motion, min(config.diversity_pairs, len(motion) // 2), rng),
    }
    unseen = _unseen(scored)
    if len(unseen) >= config.pool:
        row |= {UNSEEN + name: value for name, value in _precision(text[unseen], motion[unseen], config).items()}
    if takes is not None:
        embedded = judge.embed_motions([take for of_one in takes for take in of_one])
        embedded = embedded.reshape(len(takes), -1, embedded.shape[1])
        row["multimodality"] = metrics.multimodality(embedded, config.multimodality_pairs, rng)
    return row


def distances_to(real: np.ndarray, generated: np.ndarray, seed: tuple[int, ...]) -> dict[str, float]:
    """Compute the distances of embeddings (M, E) of motions to those of real motions (N, E): FID, its forms, and KID.

    seed: of the halves by which FID is extrapolated.
    """
    fid = metrics.fid(real, generated)
    return {
        "fid": fid,
        "fid_infinity": metrics.fid_infinity(real, generated, np.random.default_rng([*seed, 2]), fid),
        "fid_normalised": metrics.fid_normalised(real, generated),
        "kid": metrics.kid(real, generated),
    }


def _precision(text: np.ndarray, motion: np.ndarray, config: EvaluationConfig) -> dict[str, float]:
    found = metrics.r_precision(text, motion, min(config.pool, len(motion)))
    return {f"r_precision_{k}": float(value) for k, value in enumerate(found, start=1)}


def _attributes(joints: Sequence[np.ndarray], scored: CaptionedMotions, dataset: MotionDataset) -> dict[str, float]:
    """Accuracies on all captions and on those of unseen combinations, if there are any."""
    if dataset.skeleton is not HUMANML3D:
        return {}
    row: dict[str, float] = {}
    for prefix, rows in (("", range(len(joints))), (UNSEEN, _unseen(scored))):
        chosen = scored.take(rows)
        found = attribute_accuracy([joints[i] for i in rows], chosen.captions, chosen.parameters)
        for name, cell in found.items():
            if cell["count"]:
                row[f"{prefix}{ATTRIBUTE}{name}"] = cell["accuracy"]
                row[f"{prefix}{COVERAGE}{name}"] = cell["coverage"]
    return row


def _unseen(scored: CaptionedMotions) -> list[int]:
    """Rows whose combination of action and attributes is not in the training split."""
    return [row for row, actions in enumerate(scored.parameters) if actions and is_unseen(actions)]
