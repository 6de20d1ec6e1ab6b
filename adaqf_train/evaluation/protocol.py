"""The protocol of Guo et al. 2022: replications with 95 % confidence intervals and a ground-truth row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaclip.files import read_json, write_json
from adaqf_train.config import MIN_SAMPLES, EvaluationConfig
from adaqf_train.data.batches import crop
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import DataError
from adaqf_train.evaluation import metrics
from adaqf_train.evaluation.attributes import attribute_accuracy
from adaqf_train.evaluation.evaluators import Evaluator
from adaqf_train.evaluation.t2m import T2MEvaluator
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import HUMANML3D

# (captions, lengths in frames, seed) -> de-normalised features (T_i, D) of each
Generate = Callable[[Sequence[str], Sequence[int], tuple[int, ...]], Sequence[np.ndarray]]


OFFICIAL = "official_"  # before the names of the official evaluators' figures
ATTRIBUTE, COVERAGE = "attribute_", "coverage_"  # before those of the attributes


@dataclass(frozen=True)
class Judges:
    """Who scores: the independent evaluator, the feedback's own extractors, and the field's evaluators."""

    evaluator: Evaluator
    extractors: Evaluator | None = None
    official: T2MEvaluator | None = None


@dataclass(frozen=True)
class Sampled:
    """What one replication asks for: a caption and a crop of every item, in a drawn order."""

    captions: list[str]
    motions: list[np.ndarray]  # real, de-normalised features (T_i, D)
    parameters: list[list[dict] | None]  # what procedural clips show; None: the captions say

    @property
    def lengths(self) -> list[int]:
        return [len(motion) for motion in self.motions]


def draw(dataset: MotionDataset, config: EvaluationConfig, replication: int) -> Sampled:
    """Captions, crops and order of a replication: the same for every model that is compared."""
    rng = np.random.default_rng([config.seed, replication])
    order = rng.permutation(len(dataset))[: config.max_samples]
    items = [dataset.items[i] for i in order]
    captions = [item.captions[rng.integers(len(item.captions))] for item in items]
    motions = [crop(item.vectors, dataset.config.unit_frames, rng) for item in items]
    return Sampled(captions, motions, [dataset.parameters(item) for item in items])


def evaluate(
    generate: Generate | None,
    dataset: MotionDataset,
    evaluator: Evaluator,
    config: EvaluationConfig,
    *,
    judge: Evaluator | None = None,
    official: T2MEvaluator | None = None,
    progress: Path | None = None,
) -> dict[str, dict[str, float]]:
    """One row of the report: {metric: {"mean", "ci95"}} over the replications.

    generate: the model, or None for the ground-truth row (whose FID compares the real motions of two different
    replications' crops). evaluator: the independent one. judge: the feedback's own extractors, whose
    R-precision is reported beside it: a large gap means that the feedback was pleased rather than met. official: the
    field's evaluators, whose figures of the same motions are added under the names in `OFFICIAL`. progress: a
    file that keeps each replication's figures, so that an interrupted evaluation goes on with the next; its name must
    stand for all that they depend on.
    """
    check_samples(dataset)
    rows = read_json(progress)["replications"][: config.replications] if progress and progress.is_file() else []
    for replication in range(len(rows), config.replications):
        rows.append(_replicate(generate, dataset, Judges(evaluator, judge, official), config, replication))
        if progress:
            write_json(progress, {"replications": rows})
    return _intervals(rows)


def evaluate_motions(
    captions: Sequence[str],
    motions: Sequence[np.ndarray],
    dataset: MotionDataset,
    evaluator: Evaluator,
    config: EvaluationConfig,
    *,
    judge: Evaluator | None = None,
    official: T2MEvaluator | None = None,
) -> dict[str, dict[str, float]]:
    """One row of the report for motions that are there already, against the real ones of the split.

    motions: de-normalised features (T_i, D), as many as captions. A replication draws which pairs share a pool, and
    the real motions' crops; the motions are the same in all of them, so intervals are narrower than a sampler's.
    """
    check_samples(dataset)
    rows = []
    for replication in range(config.replications):
        order = np.random.default_rng([config.seed, replication, 2]).permutation(len(motions))
        rows.append(
            _score(
                [captions[i] for i in order],
                [motions[i] for i in order],
                draw(dataset, config, replication).motions,
                dataset,
                Judges(evaluator, judge, official),
                config,
                replication,
            )
        )
    return _intervals(rows)


def check_samples(dataset: MotionDataset) -> None:
    """DataError for a split too small to be scored."""
    if len(dataset) < MIN_SAMPLES:
        raise DataError(
            f"{dataset.folder}: the {dataset.split} split has {len(dataset)} items; evaluation needs at least "
            f"{MIN_SAMPLES}. Add clips to {dataset.split}.txt."
        )


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half width of the 95 % confidence interval, 1.96 std / sqrt(n) (the field's form, ddof 0)."""
    return {"mean": float(np.mean(values)), "ci95": float(1.96 * np.std(values) / np.sqrt(len(values)))}


def _intervals(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Of every figure that each replication has: an attribute that no prompt of one mentions is left out."""
    return {name: interval([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}


def sample_counts(
    dataset: MotionDataset, config: EvaluationConfig, *, motions: int | None = None
) -> Mapping[str, object]:
    """Samples, pool and pairs in use; "standard" is False where the split is too small for the protocol's.

    motions: how many are scored when they are not drawn from the split.
    """
    samples = motions or min(len(dataset), config.max_samples or len(dataset))
    pool, pairs = min(config.pool, samples), min(config.diversity_pairs, samples // 2)
    standard = pool == 32 and pairs == 300 and config.replications == 20 and samples == len(dataset)
    return {"samples": samples, "pool": pool, "diversity_pairs": pairs, "standard": standard}


def _replicate(
    generate: Generate | None,
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    replication: int,
) -> dict[str, float]:
    sampled = draw(dataset, config, replication)
    if generate is None:
        motions = sampled.motions
        # Real against real: other crops of the same clips, as T2M's ground-truth loader draws them.
        reference = draw(dataset, config, config.replications + replication).motions
    else:
        motions = generate(sampled.captions, sampled.lengths, (config.seed, replication))
        reference = sampled.motions
    return _score(
        sampled.captions, motions, reference, dataset, judges, config, replication, parameters=sampled.parameters
    )


def _score(
    captions: Sequence[str],
    motions: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    replication: int,
    *,
    parameters: Sequence[list[dict] | None] | None = None,
) -> dict[str, float]:
    """The figures of one replication. reference: real motions for FID, any number."""
    pool, pairs = min(config.pool, len(motions)), min(config.diversity_pairs, len(motions) // 2)

    def of(evaluator: Evaluator | T2MEvaluator) -> dict[str, float]:
        text, motion = evaluator.embed_texts(captions), evaluator.embed_motions(motions)
        precision = metrics.r_precision(text, motion, pool)
        return {
            "fid": metrics.fid(evaluator.embed_motions(reference), motion),
            **{f"r_precision_{k}": float(value) for k, value in enumerate(precision, start=1)},
            "mm_dist": metrics.mm_dist(text, motion),
            "diversity": metrics.diversity(motion, pairs, np.random.default_rng([config.seed, replication, 1])),
        }

    joints = [decode(motion) for motion in motions]
    row = of(judges.evaluator) | {"skating": float(np.mean([metrics.skating(j, dataset.skeleton) for j in joints]))}
    if dataset.skeleton is HUMANML3D:
        for name, found in attribute_accuracy(joints, captions, parameters).items():
            if found["count"]:
                row |= {ATTRIBUTE + name: found["accuracy"], COVERAGE + name: found["coverage"]}
    if judges.extractors is not None:
        own = judges.extractors
        own = metrics.r_precision(_unit(own.embed_texts(captions)), _unit(own.embed_motions(motions)), pool)
        row["r_precision_3_extractors"] = float(own[2])
    if judges.official is not None:
        row |= {OFFICIAL + name: value for name, value in of(judges.official).items()}
    return row


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Rows at length 1: the extractors are trained on cosines."""
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
