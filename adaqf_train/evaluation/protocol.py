"""The protocol of Guo et al. 2022: replications with 95 % confidence intervals and a ground-truth row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adaclip.integrity import read_sealed, write_sealed
from adaqf_train.config import MIN_SAMPLES, EvaluationConfig
from adaqf_train.data.batches import crop
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import DataError
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.evaluation.scores import CaptionedMotions, check_finite, learned, score, score_unseen

# (captions, lengths in frames, seed) -> de-normalised features (T_i, D) of each
Generate = Callable[[Sequence[str], Sequence[int], tuple[int, ...]], Sequence[np.ndarray]]
Row = dict[str, dict[str, float]]  # {name of a figure: {"mean", "ci95"}}

STANDARD = {"pool": 32, "diversity_pairs": 300, "replications": 20}
_PHRASES = {
    "samples": "{:,} samples",
    "pool": "pools of {}",
    "diversity_pairs": "{} pairs for diversity",
    "replications": "{} replications",
}
STANDARD_MULTIMODALITY = {"texts": 100, "repeats": 30, "pairs": 10}
REFERENCE_REPLICATIONS = 1_000_000  # added to a replication's number: larger than any evaluation's
_HELD_OUT_SEED = 4  # after seed and replication: of the noise on held-out combinations
_MULTIMODALITY_SEED = 1  # after seed and replication: the noise differs from that of the main motions


@dataclass(frozen=True)
class RealSets:
    """Real motions beside the split that is scored, as procedural data can have any number of them."""

    reference: Sequence[np.ndarray]  # features (T_i, D), not normalised, that FID compares with in every replication
    held_out: MotionDataset  # combinations that training never shows, scored by themselves


def draw(
    dataset: MotionDataset, config: EvaluationConfig, replication: int, *, whole: bool = False
) -> CaptionedMotions:
    """Draw captions, crops and their order for a replication; every model that is compared gets the same.

    The motions are real ones, cropped to a multiple of the data set's unit of frames. whole: draw all items of the
    split, whatever number the protocol scores.
    """
    rng = np.random.default_rng([config.seed, replication])
    return captioned(dataset, rng.permutation(len(dataset))[: None if whole else config.samples], rng)


def captioned(dataset: MotionDataset, rows: Sequence[int], rng: np.random.Generator) -> CaptionedMotions:
    """Draw a caption and a crop for each of some items of a split."""
    items = [dataset.items[i] for i in rows]
    captions = [item.captions[rng.integers(len(item.captions))] for item in items]
    motions = [crop(item.vectors, dataset.config.unit_frames, rng) for item in items]
    return CaptionedMotions(captions, motions, [dataset.parameters(item) for item in items])


def evaluate(
    source: Generate | CaptionedMotions | None,
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    *,
    sets: RealSets | None = None,
    progress: Path | None = None,
) -> Row:
    """Compute one row of the report: of a model, of given motions, or (None) of the real motions of the split.

    The FID of real motions compares two different crops of them, as T2M's ground-truth loader draws them. Given motions
    are the same in all replications, which draw only their pools and the crops of the real motions, so intervals are
    narrower than those of a model. The R-precision of the judges' extractors stands beside the evaluator's: a large gap
    means that the model exploits the extractors instead of improving. sets: further real motions. progress: see
    `replicated`. DataError if the
    split is too small or a motion is not finite.
    """
    check_samples(dataset)
    whole = _whole(config)

    def replicate(replication: int) -> dict[str, float]:
        takes, real = None, draw(dataset, config, replication, whole=whole)
        reference = real.motions
        if source is None and sets is not None:
            scored = real
        elif source is None:
            scored = real
            reference = draw(dataset, config, REFERENCE_REPLICATIONS + replication, whole=whole).motions
        elif isinstance(source, CaptionedMotions):
            scored = source.take(np.random.default_rng([config.seed, replication, 2]).permutation(len(source)))
        else:
            sample = draw(dataset, config, replication) if whole else real
            scored = replace(sample, motions=source(sample.captions, sample.lengths, (config.seed, replication)))
            takes = _takes(source, sample, config, replication)
        if sets is None:
            return score(scored, reference, dataset, judges, config, replication, takes)
        row = score(scored, sets.reference, dataset, judges, config, replication, takes, real.motions)
        return row if isinstance(source, CaptionedMotions) else row | unseen(replication)

    def unseen(replication: int) -> dict[str, float]:
        real = draw(sets.held_out, config, replication, whole=True)
        scored, seed = real, (config.seed, replication, _HELD_OUT_SEED)
        if source is not None:
            scored = replace(real, motions=source(real.captions, real.lengths, seed))
        reference = draw(sets.held_out, config, REFERENCE_REPLICATIONS + replication, whole=True)
        return score_unseen(scored, reference.motions, sets.held_out, judges, config, replication)

    return replicated(replicate, config.replications, progress)


def sketch(
    generate: Generate,
    dataset: MotionDataset,
    judges: Judges,
    config: EvaluationConfig,
    replications: int,
    *,
    sets: RealSets | None = None,
    progress: Path | None = None,
) -> list[dict[str, float]]:
    """Compute the figures of each replication that a point of a curve needs: those of the independent evaluator.

    Captions, crops and noise of a replication are those of `evaluate`, and so are the figures. sets, progress: as in
    `evaluate`.
    """
    check_samples(dataset)

    def replicate(replication: int) -> dict[str, float]:
        sample = draw(dataset, config, replication)
        whole = draw(dataset, config, replication, whole=True) if _whole(config) else sample
        reference = whole.motions if sets is None else sets.reference
        scored = replace(sample, motions=generate(sample.captions, sample.lengths, (config.seed, replication)))
        check_finite(scored)
        return learned(judges.evaluator, scored, reference, config, replication)

    return each(replicate, replications, progress)


def replicated(replicate: Callable[[int], Mapping[str, float]], replications: int, progress: Path | None = None) -> Row:
    """Average the figures that `replicate` computes of each replication, given its number, from 0.

    A figure that some replication lacks is omitted, such as an attribute that none of its captions mentions. progress:
    as in `each`.
    """
    rows = each(replicate, replications, progress)
    return {name: interval([row[name] for row in rows]) for name in rows[0] if all(name in row for row in rows)}


def each(
    replicate: Callable[[int], Mapping[str, float]], replications: int, progress: Path | None = None
) -> list[dict[str, float]]:
    """Compute the figures of each replication, given its number, from 0.

    The file `progress` keeps the figures and seconds of each replication, so that an interrupted evaluation resumes.
    Its name must identify everything that the figures depend on.
    """
    kept = read_progress(progress) if progress and progress.is_file() else {"replications": [], "seconds": []}
    rows, seconds = kept["replications"][:replications], kept["seconds"][:replications]
    for replication in range(len(rows), replications):
        started = time.monotonic()
        rows.append(dict(replicate(replication)))
        seconds.append(round(time.monotonic() - started, 2))
        if progress:
            write_sealed(progress, {"replications": rows, "seconds": seconds})
    return rows


def read_progress(path: Path) -> dict[str, list]:
    """Read the replications and seconds that `each` keeps; FileError if the file changed since then."""
    return read_sealed(path, "Delete it and evaluate again: its replications are computed again.")


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and the half width of the 95 % interval, 1.96 std / sqrt(n) with ddof 0, as in the field."""
    return {"mean": float(np.mean(values)), "ci95": float(1.96 * np.std(values) / np.sqrt(len(values)))}


def check_samples(dataset: MotionDataset) -> None:
    """Raise DataError if a split is too small to be scored."""
    if len(dataset) < MIN_SAMPLES:
        raise DataError(
            f"{dataset.folder}: the {dataset.split} split has {len(dataset)} items; evaluation needs at least "
            f"{MIN_SAMPLES}. Add clips to {dataset.split}.txt."
        )


def sample_counts(dataset: MotionDataset, config: EvaluationConfig, *, motions: int | None = None) -> dict[str, object]:
    """Return the sizes in use, which a small split cuts, and how they deviate from the protocol's, for the manifest.

    motions: number of motions scored, if they are not drawn from the split.
    """
    samples = motions or min(len(dataset), config.samples or len(dataset))
    sizes = {
        "samples": samples,
        "pool": min(config.pool, samples),
        "diversity_pairs": min(config.diversity_pairs, samples // 2),
        "replications": config.replications,
    }
    standard = STANDARD | {"samples": config.samples if config.protocol == "mdm1024" else len(dataset)}
    deviations = [
        f"{phrase.format(sizes[name])} instead of {standard[name]:,}"
        for name, phrase in _PHRASES.items()
        if sizes[name] != standard[name]
    ]
    multimodality = None
    if config.multimodality_texts is not None and motions is None:
        texts = min(config.multimodality_texts, samples)
        multimodality = {"texts": texts, "repeats": config.multimodality_repeats, "pairs": config.multimodality_pairs}
        if multimodality != STANDARD_MULTIMODALITY:
            form = "{texts} texts × {repeats} motions and {pairs} pairs"
            used, due = (form.format(**takes) for takes in (multimodality, STANDARD_MULTIMODALITY))
            deviations.append(f"MultiModality of {used} instead of {due}")
    return {
        "protocol": config.protocol,
        **sizes,
        "multimodality": multimodality,
        "deviations": deviations,
        "standard": not deviations,
    }


def _whole(config: EvaluationConfig) -> bool:
    """Whether MDM's protocol applies: it compares 1,024 motions with all real ones, and its ground truth covers all."""
    return config.protocol == "mdm1024"


def _takes(
    generate: Generate, real: CaptionedMotions, config: EvaluationConfig, replication: int
) -> list[list[np.ndarray]] | None:
    """Several motions for each of the first captions, whose order is random; None if MultiModality is off."""
    if config.multimodality_texts is None:
        return None
    repeats, first = config.multimodality_repeats, slice(config.multimodality_texts)
    captions, lengths = ([x for x in part[first] for _ in range(repeats)] for part in (real.captions, real.lengths))
    motions = generate(captions, lengths, (config.seed, replication, _MULTIMODALITY_SEED))
    return [list(motions[start : start + repeats]) for start in range(0, len(motions), repeats)]
