"""Named configurations."""

from __future__ import annotations

from dataclasses import replace

from adaqf_train.config import (
    POCKET_BASE,
    AlignmentConfig,
    ConfigError,
    DataConfig,
    DenoiserConfig,
    EncoderConfig,
    EvaluationConfig,
    EvaluatorConfig,
    ExtractorConfig,
    FeedbackConfig,
    JointEvaluatorConfig,
    PhysicsConfig,
    PocketClipConfig,
    RunConfig,
    SamplingConfig,
    TrainingConfig,
    ValidationConfig,
)

# The paper's setting on HumanML3D (section 4.1, one GPU): the defaults of the settings, and one that saves time.
HUMANML3D = RunConfig(
    recipe="humanml3d",
    training=TrainingConfig(bucket=16),  # a larger one saves little more
    evaluation=EvaluationConfig(guidances=(1.0, 1.5, 2.0, 2.5, 3.5)),  # around the paper's 2.5
)

# The paper's setting on KIT-ML: half the batch size, and shorter clips (12.5 frames per second).
KIT = replace(HUMANML3D, recipe="kit", data=DataConfig(min_frames=24), training=replace(HUMANML3D.training, batch=32))

# The paper in miniature, for machines without a GPU: any data set, a still-pose CLIP, minutes on two cores. Two limits
# determine the sizes: a step takes about 0.1 s on two cores, and embeddings are at most a quarter as wide as there are
# test items, so that FID's covariances have full rank. Feedback weights, the adapter's learning rate and guidance were
# chosen on the validation split of the procedural motions (docs/results.md has the comparison).
POCKET = replace(
    HUMANML3D,
    recipe="pocket",
    pocket_clip=PocketClipConfig(width=96, layers=3, feedforward=384, projection=96, steps=300, batch=64),
    encoder=EncoderConfig(base=POCKET_BASE),
    extractors=ExtractorConfig(
        movement=128, motion_hidden=96, text_hidden=96, embedding=64, steps=400, learning_rate=1e-3
    ),
    evaluator=EvaluatorConfig(
        width=96, layers=2, feedforward=192, embedding=64, steps=1000, learning_rate=1e-3, flipped=True
    ),
    joint_evaluator=JointEvaluatorConfig(width=96, layers=3, embedding=64, steps=400, learning_rate=1e-3),
    denoiser=DenoiserConfig(width=128, layers=4, feedforward=256, frames_per_token=4),
    # The paper's 10 and 2 suit 600,000 steps; here they would outweigh the reconstruction loss and slow it down.
    feedback=FeedbackConfig(motion=0.02, text=0.1),
    training=TrainingConfig(
        steps=800,  # about two minutes; the baseline's FID on val stops falling after 500
        batch=32,
        learning_rate=1e-3,
        drop_at=None,  # a drop tied to the end would hide how fast a model learns
        bucket=16,  # saves a third: procedural clips have 72 frames with their padding instead of 107
        cache_text=False,  # the pocket encoder takes milliseconds
        ema=0.99,  # a horizon of 100 steps; MDM's 0.9999 would still hold the random start
        workers=0,
        checkpoint_every=100,
        log_every=10,
    ),
    validation=ValidationConfig(every=None),  # sampling for a validation would take longer than the training before it
    sampling=SamplingConfig(guidance=1.5, scheduler="ddim", steps=10),
    # The standard 100 texts × 30 motions would sample several times as many motions as everything else.
    evaluation=EvaluationConfig(
        replications=3,
        multimodality_texts=20,
        multimodality_repeats=5,
        multimodality_pairs=5,
        guidances=(0.5, 0.75, 1.0, 1.5, 2.5),  # FID is lowest near 1; arms meet at R@3 of small guidances
        curve_replications=2,
    ),
)

# What the study `method` found to be better than the paper's way (docs/results.md): pooled text, an encoder that is
# aligned with motions before the feedback, and physics losses with the smaller of the weights that were tried.
ALIGNED = replace(
    POCKET,
    recipe="aligned",
    denoiser=replace(POCKET.denoiser, conditioning="pooled"),
    physics=PhysicsConfig(velocity=0.1, feet=0.1),
    alignment=AlignmentConfig(steps=400, learning_rate=1e-3, encoder_learning_rate=1e-3, weight=0.1),
)

# The demo, which `adaqf` runs without arguments: the same with fewer steps, on procedural motions.
DEMO = replace(
    ALIGNED,
    recipe="demo",
    alignment=replace(ALIGNED.alignment, steps=200),
    training=replace(POCKET.training, steps=600, cool_down=0.25),
    evaluator=replace(POCKET.evaluator, steps=500),
    joint_evaluator=replace(POCKET.joint_evaluator, steps=250),
    # On two cores the evaluation takes about a minute (runs/outline.py): two points of the curve, each once, two
    # replications, and 320 motions, of which embeddings are at most a quarter as wide.
    evaluation=replace(
        POCKET.evaluation,
        replications=2,
        max_samples=320,
        multimodality_texts=None,
        guidances=(1.0, 1.5),
        curve_replications=1,
    ),
)

RECIPES = {recipe.recipe: recipe for recipe in (DEMO, ALIGNED, POCKET, HUMANML3D, KIT)}


def load(name: str) -> RunConfig:
    """Returns the recipe of that name; ConfigError lists the names if there is none."""
    if name not in RECIPES:
        raise ConfigError(f"There is no recipe {name!r}: choose from {', '.join(RECIPES)}.")
    return RECIPES[name]
