"""Scores of any text-to-motion model in one call: `evaluate(generator, dataset, "runs/demo/evaluator")`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaqf_train.config import EvaluationConfig, RunConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import ConfigError, DataError
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.evaluation.manifest import manifest
from adaqf_train.evaluation.report import Report
from adaqf_train.evaluation.standalone import load_evaluator
from adaqf_train.judges.base import Evaluator

if TYPE_CHECKING:
    from adaqf_train.generators.base import MotionGenerator


def evaluate(
    generate: MotionGenerator | protocol.Generate,
    dataset: MotionDataset,
    evaluator: Evaluator | str | Path,
    *,
    replications: int = 20,
    seed: int = 0,
    **settings: object,
) -> Report:
    """Scores a model and the real motions by the protocol of Guo et al. 2022.

    Args:
        generate: A generator, or a function of captions, lengths in frames and a tuple of seeds that returns the
            de-normalised features (T_i, D) of each caption.
        dataset: The split to score on.
        evaluator: The independent evaluator, or its folder.
        replications: Repetitions, from which confidence intervals are computed.
        seed: Seed of order, captions, crops and noise.
        **settings: Other fields of `EvaluationConfig`, such as multimodality_texts=None.

    Returns:
        A report with the rows "gt" (real motions) and "generated".

    Raises:
        ConfigError: A setting does not hold.
        DataError: The split is too small, or the evaluator reads other features.
        ArtefactError: The evaluator's folder is incomplete or damaged.
    """
    evaluator, fingerprint = load_evaluator(evaluator)
    if len(evaluator.mean) != dataset.features:
        raise DataError(
            f"{dataset.folder}: {dataset.features} features per frame, but the evaluator reads {len(evaluator.mean)}. "
            "Give an evaluator that was trained on such data."
        )
    config = EvaluationConfig(replications=replications, seed=seed, **settings)
    if config.guidances or config.procedural_test is not None:
        raise ConfigError(
            "Curves over guidance and procedural sets need a run: leave out guidances and procedural_test, or call "
            "adaqf evaluate --run."
        )
    run = replace(RunConfig(), evaluation=config)
    if hasattr(generate, "sampling"):
        run = replace(run, sampling=generate.sampling)

    def features(captions, lengths, seed):
        return generate.generate_features(captions, lengths, seed=seed)

    sources = {"gt": None, "generated": features if hasattr(generate, "generate_features") else generate}
    rows = {name: protocol.evaluate(source, dataset, Judges(evaluator), config) for name, source in sources.items()}
    described = manifest(
        run,
        dataset,
        protocol.sample_counts(dataset, config),
        hashes={"evaluator": fingerprint, "extractors": None, "official": None, "models": {}},
        seconds={"stages": {}, "rows": {}},
        judge=evaluator,
    )
    return Report.of(rows, described)
