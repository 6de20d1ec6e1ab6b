"""Scores a generator on val while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adaclip.files import atomic_file
from adaqf_train.config import RunConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.judges.evaluators import Evaluator
from adaqf_train.motion.features import decode
from adaqf_train.render.pictures import strip

# A generator, and the step whose weights it has -> its figures.
ScoreGenerator = Callable[[MotionGenerator, int], Mapping[str, float]]


def validator(
    dataset: MotionDataset,
    config: RunConfig,
    evaluator: Path,
    extractors: Path | None,
    *,
    pictures: Path,
    device: torch.device,
) -> ScoreGenerator:
    """Make the function that scores a generator during training, each time with the same captions, lengths and noise.

    Args:
        dataset: The val split.
        config: Of the run.
        evaluator: Folder of the independent evaluator.
        extractors: Folder of the feedback's extractors, whose R-precision is reported beside the evaluator's.
        pictures: Each validation writes PICTURES_STEP.png, a few of its motions.
        device: Where the judges run.

    Returns:
        score(generator, step) -> {metric: mean}.
    """
    validation = config.validation
    once = replace(
        config.evaluation,
        split="val",
        protocol="full",
        replications=1,
        max_samples=validation.samples,
        multimodality_texts=None,
        seed=validation.seed,
    )
    matcher, tokenizer, statistics = store.load_evaluator(evaluator)
    own = None
    if extractors is not None:
        towers, words = store.load_extractors(extractors)
        own = Evaluator(towers.to(device), words, dataset.mean, dataset.std)
    judges = Judges(Evaluator(matcher.to(device), tokenizer, *statistics), own)
    drawn, few = protocol.draw(dataset, once, 0), slice(validation.strips)
    captions, lengths = drawn.captions[few], drawn.lengths[few]

    def score(generator: MotionGenerator, step: int) -> dict[str, float]:
        def sample(captions: Sequence[str], lengths: Sequence[int], seed: tuple[int, ...]) -> list[np.ndarray]:
            return generator.generate_features(captions, lengths, seed=seed)

        if validation.strips:
            made = sample(captions, lengths, (validation.seed,))
            metres = dataset.skeleton.units_per_metre
            picture = strip([decode(motion) / metres for motion in made], captions, dataset.fps)
            with atomic_file(pictures.with_name(f"{pictures.name}_{step:08d}.png")) as staging:
                picture.save(staging, format="PNG")
        row = protocol.evaluate(sample, dataset, judges, once)
        return {name: figure["mean"] for name, figure in row.items() if figure["mean"] is not None}

    return score
