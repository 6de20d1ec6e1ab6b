"""Score a generator on val while it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from adaclip.files import atomic_file
from adaqf_train.config import EvaluationConfig, RunConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.judges.base import Evaluator
from adaqf_train.motion.features import decode
from adaqf_train.render.pictures import strip
from adaqf_train.runs.folder import RunFolder

# A generator, and the step whose weights it has -> its figures.
ScoreGenerator = Callable[[MotionGenerator, int], Mapping[str, float]]


def load_evaluator(folder: Path, device: torch.device) -> Evaluator:
    """The independent evaluator, ready to score."""
    matcher, tokenizer, statistics = store.load_evaluator(folder)
    return Evaluator(matcher.to(device), tokenizer, *statistics)


def load_extractors(folder: Path, dataset: MotionDataset, device: torch.device) -> Evaluator:
    """The feedback's extractors, ready to score motions of a data set."""
    towers, tokenizer = store.load_extractors(folder)
    return Evaluator(towers.to(device), tokenizer, dataset.mean, dataset.std)


def validation_protocol(config: RunConfig) -> EvaluationConfig:
    """The protocol of a validation during training."""
    validation = config.validation
    return replace(
        config.evaluation,
        split="val",
        protocol="full",
        replications=1,
        max_samples=validation.samples,
        multimodality_texts=None,
        seed=validation.seed,
    )


def validation_settings(config: RunConfig) -> dict[str, object]:
    """What the result of a training depends on because of its validations."""
    own = asdict(config.validation)
    del own["strips"]
    settings: dict[str, object] = {"validation": own}
    if config.validation.select == "best" or config.validation.patience is not None:
        sampling = asdict(config.sampling)
        del sampling["batch"]  # each motion's noise is its own
        settings |= {"sampling": sampling, "pool": config.evaluation.pool}
    return settings


def validator(run: RunFolder, config: RunConfig, dataset: MotionDataset, stage: str) -> ScoreGenerator:
    """Make score(generator, step) -> {metric: mean}, which uses the same captions, lengths and noise each time.

    The run has the evaluator, and the extractors if there is feedback. Each validation of a stage also writes a picture
    of a few of its motions.
    """
    validation, once = config.validation, validation_protocol(config)
    device, trained = run.accelerator.device, "extractors" in run.stages()
    own = load_extractors(run.extractors, dataset, device) if trained else None
    judges = Judges(load_evaluator(run.evaluator, device), own)
    drawn, few = protocol.draw(dataset, once, 0), slice(validation.strips)
    captions, lengths = drawn.captions[few], drawn.lengths[few]

    def score(generator: MotionGenerator, step: int) -> dict[str, float]:
        def sample(captions: Sequence[str], lengths: Sequence[int], seed: tuple[int, ...]) -> list[np.ndarray]:
            return generator.generate_features(captions, lengths, seed=seed)

        if validation.strips:
            made = sample(captions, lengths, (validation.seed,))
            metres = dataset.skeleton.units_per_metre
            picture = strip([decode(motion) / metres for motion in made], captions, dataset.fps)
            with atomic_file(run.validation / f"{stage}_{step:08d}.png") as staging:
                picture.save(staging, format="PNG")
        row = protocol.evaluate(sample, dataset, judges, once)
        return {name: figure["mean"] for name, figure in row.items() if figure["mean"] is not None}

    return score
