"""The protocol of Guo et al. 2022: replications with 95 % confidence intervals and a ground-truth row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaclip.files import read_json, write_json
from adaqf_train.config import MIN_SAMPLES, EvaluationConfig
from adaqf_train.data.batches import crop
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import DataError
from adaqf_train.evaluation.scores import Asked, Judges, score

# (captions, lengths in frames, seed) -> de-normalised features (T_i, D) of each
Generate = Callable[[Sequence[str], Sequence[int], tuple[int, ...]], Sequence[np.ndarray]]
Row = dict[str, dict[str, float]]  # {name of a figure: {"mean", "ci95"}}

# What each draw of a replication is seeded with, for those who want to repeat one.
ORDER = "numpy default_rng([seed, replication]): a permutation of the split's items, then captions, then crops"
POOLS = "consecutive rows of that order; the incomplete last pool is dropped"
STANDARD = {"pool": 32, "diversity_pairs": 300, "replications": 20}
STANDARD_MULTIMODALITY = {"texts": 100, "repeats": 30, "pairs": 10}
_OTHER_CROPS = 1_000_000  # added to a replication's number: past those of any evaluation
_MULTIMODALITY_SEED = 1  # after seed and replication: noise apart from that of the main motions


@dataclass(frozen=True)
class Sampled:
    """What one replication asks for: a caption and a crop of every item, in a drawn order."""

    captions: list[str]
    motions: list[np.ndarray]  # real, de-normalised features (T_i, D)
    parameters: list[list[dict] | None]  # what procedural clips show; None: the captions say

    @property
    def lengths(self) -> list[int]:
        return [len(motion) for motion in self.motions]

    @property
    def asked(self) -> Asked:
        return Asked(self.captions, self.parameters)


def draw(dataset: MotionDataset, config: EvaluationConfig, replication: int, *, whole: bool = False) -> Sampled:
    """Captions, crops and order of a replication: the same for every model that is compared.

    whole: all items of the split, whatever number the protocol scores.
    """
    rng = np.random.default_rng([config.seed, replication])
    order = rng.permutation(len(dataset))[: None if whole else config.samples]
    items = [dataset.items[i] for i in order]
    captions = [item.captions[rng.integers(len(item.captions))] for item in items]
    motions = [crop(item.vectors, dataset.config.unit_frames, rng) for item in items]
    return Sampled(captions, motions, [dataset.parameters(item) for item in items])


def evaluate(
    generate: Generate | None,
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    *,
    progress: Path | None = None,
) -> Row:
    """One row of the report.

    generate: the model, or None for the ground-truth row (whose FID compares the real motions of two different
    replications' crops). judges: the independent evaluator, whose figures go by their own names; the feedback's own
    extractors, whose R-precision is reported beside it (a large gap means that the feedback was pleased rather than
    met); the field's evaluators, whose figures of the same motions are added under the names in `scores.OFFICIAL`.
    progress: as in `replicated`.
    """
    check_samples(dataset)
    # MDM compares its 1,024 motions with all real ones, and takes the real ones' own row over all of them.
    whole = config.protocol == "mdm1024"

    def replicate(replication: int) -> dict[str, float]:
        sampled = draw(dataset, config, replication, whole=whole and generate is None)
        if generate is None:
            # Real against real: other crops of the same clips, as T2M's ground-truth loader draws them.
            reference = draw(dataset, config, _OTHER_CROPS + replication, whole=whole).motions
            return score(sampled.asked, sampled.motions, reference, dataset, judges, config, replication)
        motions = generate(sampled.captions, sampled.lengths, (config.seed, replication))
        reference = draw(dataset, config, replication, whole=True).motions if whole else sampled.motions
        takes = _takes(generate, sampled, config, replication)
        return score(sampled.asked, motions, reference, dataset, judges, config, replication, takes)

    return replicated(replicate, config.replications, progress)


def evaluate_motions(
    asked: Asked,
    motions: Sequence[np.ndarray],
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    *,
    progress: Path | None = None,
) -> Row:
    """One row of the report for motions that are there already, against the real ones of the split.

    motions: de-normalised features (T_i, D), one a prompt. A replication draws which pairs share a pool, and the real
    motions' crops; the motions are the same in all of them, so intervals are narrower than a sampler's.
    """
    check_samples(dataset)

    def replicate(replication: int) -> dict[str, float]:
        order = np.random.default_rng([config.seed, replication, 2]).permutation(len(motions))
        drawn = Asked([asked.captions[i] for i in order], [asked.parameters[i] for i in order])
        reference = draw(dataset, config, replication, whole=config.protocol == "mdm1024").motions
        return score(drawn, [motions[i] for i in order], reference, dataset, judges, config, replication)

    return replicated(replicate, config.replications, progress)


def replicated(replicate: Callable[[int], Mapping[str, float]], replications: int, progress: Path | None = None) -> Row:
    """Mean and interval of what `replicate(0)`, `replicate(1)` … give.

    progress: a file that keeps each replication's figures and seconds, so that an interrupted evaluation goes on with
    the next; its name must stand for all that they depend on.
    """
    kept = read_json(progress) if progress and progress.is_file() else {"replications": [], "seconds": []}
    rows, seconds = kept["replications"][:replications], kept["seconds"][:replications]
    for replication in range(len(rows), replications):
        started = time.monotonic()
        rows.append(dict(replicate(replication)))
        seconds.append(round(time.monotonic() - started, 2))
        if progress:
            write_json(progress, {"replications": rows, "seconds": seconds})
    # Of every figure that each replication has: an attribute that no prompt of one mentions is left out.
    return {name: interval([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}


def seconds_of(progress: Path) -> float:
    """Wall time of the replications that a file keeps, whichever calls made them."""
    return round(sum(read_json(progress)["seconds"]), 1)


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and half width of the 95 % confidence interval, 1.96 std / sqrt(n) (the field's form, ddof 0)."""
    return {"mean": float(np.mean(values)), "ci95": float(1.96 * np.std(values) / np.sqrt(len(values)))}


def check_samples(dataset: MotionDataset) -> None:
    """DataError for a split too small to be scored."""
    if len(dataset) < MIN_SAMPLES:
        raise DataError(
            f"{dataset.folder}: the {dataset.split} split has {len(dataset)} items; evaluation needs at least "
            f"{MIN_SAMPLES}. Add clips to {dataset.split}.txt."
        )


def sample_counts(dataset: MotionDataset, config: EvaluationConfig, *, motions: int | None = None) -> dict[str, object]:
    """Samples, pool, pairs and replications in use, and under "deviations" in what they differ from the protocol's.

    motions: how many are scored when they are not drawn from the split.
    """
    expected = config.samples if config.protocol == "mdm1024" else len(dataset)
    samples = motions or min(len(dataset), config.samples or len(dataset))
    pool, pairs = min(config.pool, samples), min(config.diversity_pairs, samples // 2)
    checks = [
        ("{:,} samples", samples, expected),
        ("pools of {}", pool, STANDARD["pool"]),
        ("{} pairs for diversity", pairs, STANDARD["diversity_pairs"]),
        ("{} replications", config.replications, STANDARD["replications"]),
    ]
    multimodality = None
    if config.multimodality_texts is not None and motions is None:
        multimodality = {
            "texts": min(config.multimodality_texts, samples),
            "repeats": config.multimodality_repeats,
            "pairs": config.multimodality_pairs,
        }
    deviations = [f"{said.format(used)} instead of {due:,}" for said, used, due in checks if used != due]
    if multimodality is not None and multimodality != STANDARD_MULTIMODALITY:
        form = "{texts} texts × {repeats} motions and {pairs} pairs"
        used, due = (form.format(**sizes) for sizes in (multimodality, STANDARD_MULTIMODALITY))
        deviations.append(f"MultiModality of {used} instead of {due}")
    return {
        "protocol": config.protocol,
        "samples": samples,
        "pool": pool,
        "diversity_pairs": pairs,
        "replications": config.replications,
        "multimodality": multimodality,
        "deviations": deviations,
        "standard": not deviations,
    }


def _takes(
    generate: Generate, sampled: Sampled, config: EvaluationConfig, replication: int
) -> list[list[np.ndarray]] | None:
    """Several motions of the first prompts, which are a random choice; None where MultiModality is off."""
    if config.multimodality_texts is None:
        return None
    repeats, texts = config.multimodality_repeats, min(config.multimodality_texts, len(sampled.captions))
    captions = [caption for caption in sampled.captions[:texts] for _ in range(repeats)]
    lengths = [length for length in sampled.lengths[:texts] for _ in range(repeats)]
    motions = generate(captions, lengths, (config.seed, replication, _MULTIMODALITY_SEED))
    return [list(motions[start : start + repeats]) for start in range(0, len(motions), repeats)]
