"""The settings of a whole run: data, networks, training, sampling and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import tyro

from adaqf_train.config import networks
from adaqf_train.config.schema import Count, Group, Items, Natural, NotNegative, at_least, at_most, check, require
from adaqf_train.config.training import (
    MIN_SAMPLES,
    AlignmentConfig,
    FeedbackConfig,
    PhysicsConfig,
    TrainingConfig,
    ValidationConfig,
)

MDM_SAMPLES = 1024  # MDM's `num_samples_limit` of 1,000, rounded up to batches of 32

SchedulerName = Literal["ddpm", "ddim", "dpm++"]


@dataclass(frozen=True)
class SyntheticConfig(Group, name="synthetic"):
    """The procedural data set that `demo` generates."""

    clips: Annotated[int, at_least(100), at_most(1_000_000)] = 3000
    """Clips in all three splits; fewer than 100 would leave a split without use."""
    seed: Natural = 0  # Seed of motions and captions.


@dataclass(frozen=True)
class DataConfig(Group, name="data"):
    """Which clips are used and how they are cropped (HumanML3D's loader)."""

    min_frames: Annotated[int, at_least(1), Items] = 40  # Shortest clip in use; HumanML3D's (KIT-ML has 24).
    max_frames: Annotated[int, at_least(1), Items] = 200
    """Clips must be shorter than this, so at most 196 frames remain after cropping to whole units."""
    unit_frames: Count = 4  # Lengths are multiples of this; the extractors halve the frame rate twice.
    samples: Annotated[int, at_least(2), Items] | None = None
    """Clips of the training split in use; the paper's few-sample runs have 500 to 8,000. None: all."""
    samples_seed: Natural = 0
    """Seed that chooses those clips; with the same seed, a smaller choice is part of a larger one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.unit_frames % 4 == 0,
            f"data.unit_frames must be a multiple of 4 (the extractors halve the rate twice), got {self.unit_frames}.",
        )
        require(
            self.unit_frames <= self.min_frames < self.max_frames,
            f"data needs unit_frames <= min_frames < max_frames, got {self.unit_frames}, {self.min_frames}, "
            f"{self.max_frames}.",
        )


@dataclass(frozen=True)
class SamplingConfig(Group, name="sampling"):
    """How motions are sampled from the trained model."""

    guidance: NotNegative = 2.5  # Weight of the prompt (classifier-free guidance); MDM's.
    scheduler: SchedulerName = "ddpm"  # Sampler of the reverse diffusion.
    steps: Count = 50  # Denoising steps.
    batch: Annotated[int, at_least(1), Items] = 64  # Motions sampled at once.


@dataclass(frozen=True)
class EvaluationConfig(Group, name="evaluation"):
    """The evaluation protocol of Guo et al. 2022."""

    split: Literal["test", "val"] = "test"  # Split that is scored; use val while you choose settings.
    protocol: Literal["full", "mdm1024"] = "full"
    """mdm1024 scores 1,024 motions against all real ones of the split, as MDM does."""
    replications: Count = 20  # Repetitions, from which confidence intervals are computed.
    pool: Annotated[int, at_least(3), Items] = 32  # Candidate captions of R-precision.
    diversity_pairs: Annotated[int, at_least(1), Items] = 300  # Pairs of motions whose distance is Diversity.
    multimodality_texts: Annotated[int, at_least(1), Items] | None = 100
    """Texts of MultiModality, which samples texts × repeats further motions; None: no MultiModality."""
    multimodality_repeats: Annotated[int, at_least(2), Items] = 30  # Motions of each of those texts.
    multimodality_pairs: Annotated[int, at_least(1), Items] = 10
    """Pairs of motions of one text whose distance is taken."""
    max_samples: Annotated[int, at_least(MIN_SAMPLES), Items] | None = None
    """Motions of a replication; None: the whole split."""
    guidances: tuple[NotNegative, ...] = ()
    """Guidances of each model's curve, sampled on val and on the split that is scored; for a family whose own guidance
    differs from sampling.guidance, times the ratio of the two. Empty: no curve, and every model at its own guidance."""
    choose: Literal["fid", "r_precision_3", "none"] = "fid"
    """Figure on val that chooses a model's guidance from the curve; none: each keeps its own guidance."""
    curve_replications: Count = 3  # Repetitions of the points of the curve, at most `replications`.
    procedural_test: Annotated[int, at_least(100), Items] | None = None
    """Clips of a test set that is made for the evaluation of procedural data, without the combinations that training
    never shows; a quarter as many of those are scored by themselves. None: the splits of the data."""
    procedural_val: Annotated[int, at_least(40), Items] = 500
    """Clips of the val set beside it, a fifth of which are combinations that training never shows."""
    procedural_reference: Annotated[int, at_least(100), Items] = 10_000
    """Real motions that FID on that test set compares with."""
    seed: Natural = 0  # Seed of order, captions, crops and noise.

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(set(self.guidances)) == len(self.guidances),
            f"evaluation.guidances must differ from each other, got {', '.join(map(str, self.guidances))}.",
        )
        repeats, pairs = self.multimodality_repeats, self.multimodality_pairs
        require(
            pairs <= repeats,
            f"evaluation.multimodality_pairs must lie between 1 and multimodality_repeats ({repeats}), got {pairs}.",
        )
        require(
            self.max_samples is None or self.protocol == "full",
            f"evaluation.protocol={self.protocol} sets the number of samples: evaluation.max_samples must be none.",
        )

    @property
    def samples(self) -> int | None:
        """Motions that a replication samples; None: as many as the split has."""
        return MDM_SAMPLES if self.protocol == "mdm1024" else self.max_samples

    @property
    def chooses(self) -> bool:
        """Whether the guidance of each model is chosen on val."""
        return bool(self.guidances) and self.choose != "none"


@dataclass(frozen=True)
class RunConfig:
    """One run: data in; a baseline, an AdaQF model, an adapter and a report out."""

    recipe: Annotated[str, tyro.conf.Suppress] = "humanml3d"  # the command line has --recipe, which loads it
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pocket_clip: networks.PocketClipConfig = field(default_factory=networks.PocketClipConfig)
    encoder: networks.EncoderConfig = field(default_factory=networks.EncoderConfig)
    extractors: networks.ExtractorConfig = field(default_factory=networks.ExtractorConfig)
    evaluator: networks.EvaluatorConfig = field(default_factory=networks.EvaluatorConfig)
    joint_evaluator: networks.JointEvaluatorConfig = field(default_factory=networks.JointEvaluatorConfig)
    denoiser: networks.DenoiserConfig = field(default_factory=networks.DenoiserConfig)
    diffusion: networks.DiffusionConfig = field(default_factory=networks.DiffusionConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    physics: PhysicsConfig = field(default_factory=PhysicsConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        check("recipe", str, self.recipe)
        require(
            self.data.unit_frames % self.denoiser.frames_per_token == 0,
            f"data.unit_frames ({self.data.unit_frames}) must be a multiple of denoiser.frames_per_token "
            f"({self.denoiser.frames_per_token}).",
        )
        require(
            not self.feedback.hidden or self.denoiser.arch == "decoder",
            "feedback.hidden needs a decoder: set denoiser.arch=decoder.",
        )
        require(
            not self.feedback.hidden or self.denoiser.frames_per_token in (1, 2, 4),
            "feedback.hidden needs tokens of 1, 2 or 4 frames, because the extractors' features have four: "
            f"denoiser.frames_per_token is {self.denoiser.frames_per_token}.",
        )
        require(
            self.training.adapter_learning_rate is None or self.encoder.tuning != "frozen",
            "training.adapter_learning_rate is set, but encoder.tuning=frozen trains no text encoder: leave one out.",
        )
        self.diffusion.require(self.sampling.steps)
        last = self.feedback.max_timestep
        require(
            last is None or last < self.diffusion.steps,
            f"feedback.max_timestep ({last}) must be below diffusion.steps ({self.diffusion.steps}).",
        )

    def baseline(self) -> RunConfig:
        """The same run with the base as a frozen encoder and without feedback; its physics stays."""
        return replace(
            self,
            feedback=FeedbackConfig(motion=0.0, text=0.0),
            alignment=AlignmentConfig(),
            encoder=replace(self.encoder, tuning="frozen"),
            training=replace(self.training, adapter_learning_rate=None),
        )
