"""The paper in miniature, for machines without a GPU: any data set, a still-pose CLIP, minutes on two cores.

Sizes follow from two measurements on two cores: a step has to take about 0.1 s, and embeddings may be at most a
quarter as wide as there are test items, so that FID's covariances have full rank.
"""

from dataclasses import replace

from adaqf_train.config import (
    POCKET_BASE,
    DenoiserConfig,
    EncoderConfig,
    EvaluationConfig,
    EvaluatorConfig,
    ExtractorConfig,
    FeedbackConfig,
    PocketClipConfig,
    SamplingConfig,
    TrainingConfig,
)
from adaqf_train.recipes.humanml3d import RECIPE as HUMANML3D

RECIPE = replace(
    HUMANML3D,
    recipe="pocket",
    pocket_clip=PocketClipConfig(width=96, layers=3, feedforward=384, projection=96, steps=300, batch=64),
    encoder=EncoderConfig(base=POCKET_BASE),
    extractors=ExtractorConfig(
        movement=128, motion_hidden=96, text_hidden=96, embedding=64, steps=500, learning_rate=1e-3
    ),
    evaluator=EvaluatorConfig(width=96, layers=2, feedforward=192, embedding=64, steps=600, learning_rate=1e-3),
    denoiser=DenoiserConfig(width=128, layers=4, feedforward=256, frames_per_token=4),
    feedback=FeedbackConfig(motion=1.0, text=0.5, weighting="alpha_bar"),
    training=TrainingConfig(
        steps=1200,
        batch=32,
        learning_rate=5e-4,
        drop_at=1000,
        ema=0.99,  # a horizon of 100 steps; MDM's 0.9999 would still hold the random start
        workers=0,
        checkpoint_every=200,
        log_every=10,
    ),
    sampling=SamplingConfig(scheduler="ddim", steps=10),
    evaluation=EvaluationConfig(replications=5),
)
