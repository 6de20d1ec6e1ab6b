"""Settings of training: the feedback, the optimisation, and validation while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from adaqf_train.config.networks import ContrastiveFit
from adaqf_train.config.schema import (
    Count,
    Group,
    Items,
    Natural,
    NotNegative,
    Parts,
    Positive,
    Share,
    at_least,
    at_most,
    require,
    within,
)

MIN_SAMPLES = 8  # of an evaluation; below that no figure means anything


@dataclass(frozen=True)
class FeedbackConfig(Group, name="feedback"):
    """Motion quality feedback (Eq. 3-5)."""

    motion: NotNegative = 10.0  # Weight of the motion loss, lambda_M (section 4.4).
    text: NotNegative = 2.0  # Weight of the text loss, lambda_T (section 4.4).
    on_dropped_text: bool = False  # Apply the text loss also to items whose text was withheld from the denoiser.
    weighting: Literal["uniform", "alpha_bar"] = "uniform"  # Weight of a timestep's feedback; uniform is the paper's.
    max_timestep: Natural | None = None
    """Noisiest timestep that gets feedback; None: all timesteps do, as in the paper."""
    min_timestep: Natural = 0  # Least noisy timestep that gets feedback.
    balance: Positive | None = None
    """Size of the feedback's gradient on the predicted motion, as a share of the reconstruction's; motion and text
    then only divide it between each other. None: fixed weights, as in the paper."""
    hinge: bool = False  # End the text feedback of a motion that agrees with its text as well as the real motion does.
    fade: bool = False  # Let the feedback fade out while training.cool_down lowers the learning rate.
    hidden: NotNegative = 0.0
    """Weight of the agreement of the denoiser's middle layer with the extractors' features of the real motion, frame
    by frame (REPA, Yu et al. 2025); no gradient passes through the extractors."""
    hidden_until: Annotated[float, within("(0, 1]")] = 0.5  # Share of the steps after which `hidden` ends.
    judge: Literal["extractors", "official"] = "extractors"
    """Networks that give feedback; official are the evaluators of Guo et al. 2022 (Table 7)."""
    official: str | None = None  # Folder of the official evaluators' files: finest.tar and glove/, at any depth.

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.max_timestep is None or self.min_timestep <= self.max_timestep,
            f"feedback.min_timestep ({self.min_timestep}) must not exceed feedback.max_timestep ({self.max_timestep}).",
        )
        require(
            not self.hidden or self.judge == "extractors",
            "feedback.hidden compares with features of the extractors: set feedback.judge=extractors.",
        )
        require(
            self.judge != "official" or self.official is not None,
            "feedback.judge=official needs the folder of the official evaluators' files: --feedback.official DIR.",
        )

    @property
    def active(self) -> bool:
        """Whether any feedback is given, so that a judge is needed."""
        return self.motion > 0 or self.text > 0 or self.hidden > 0


@dataclass(frozen=True)
class PhysicsConfig(Group, name="physics"):
    """Losses on the decoded joints of the predicted motion, in both arms (MDM's geometric losses, in SI units)."""

    velocity: NotNegative = 0.0  # Weight of the squared error of joint velocities, in (m/s)²; MDM's code leaves it off.
    feet: NotNegative = 0.0  # Weight of the squared velocity of the feet where the real motion has contact, in (m/s)².

    @property
    def active(self) -> bool:
        """Whether joints are decoded."""
        return self.velocity > 0 or self.feet > 0


@dataclass(frozen=True)
class AlignmentConfig(ContrastiveFit, name="alignment"):
    """Alignment of the encoder by contrast before the joint training, and how much of it remains during that.

    InfoNCE draws the pooled vector to its motion's embedding, and a tether keeps it near the base's vector.
    """

    steps: Natural = 0  # Steps before the joint training; 0: it starts from the base.
    learning_rate: Positive = 1e-4  # Learning rate of the motion encoder.
    encoder_learning_rate: Positive = 1e-4  # Learning rate of the text encoder.
    temperature: Positive = 0.1  # Temperature of InfoNCE; the extractors'.
    tether: NotNegative = 1.0  # Weight of 1 - cosine to the base's pooled vector, beside InfoNCE.
    weight: NotNegative = 0.0  # Weight of both during the co-optimisation.
    checkpoint_every: Count = 1000  # Steps between checkpoints.
    seed: Natural = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps > 0 or self.weight == 0, "alignment.weight needs an aligned start: set alignment.steps.")


@dataclass(frozen=True)
class TrainingConfig(Group, name="training"):
    """The joint training of denoiser and adapter; defaults are those of section 4.1."""

    steps: Count = 600_000  # Optimiser steps.
    batch: Annotated[int, at_least(2), Items] = 64  # Motions in a batch, over all processes.
    accumulate: Count = 1  # Parts in which a batch is computed one after the other, if it does not fit into memory.
    learning_rate: Positive = 1e-4  # Maximum learning rate of AdamW.
    adapter_learning_rate: Positive | None = None  # Maximum learning rate of the encoder's parameters; None: the same.
    weight_decay: NotNegative = 0.0  # Weight decay of AdamW; MDM has none.
    warmup: Natural = 0  # Steps over which the learning rate rises from zero; neither the paper nor MDM has any.
    drop_at: Natural | None = 300_000  # Step from which the learning rate is multiplied by drop_by; None: never.
    drop_by: Positive = 0.1  # Factor of the learning rate from drop_at on.
    cool_down: Share = 0.0  # Last share of the steps, over which the learning rate falls to zero in a straight line.
    clip_norm: Positive | None = None  # Maximum norm of the gradients; None: no clipping, as in MDM.
    max_loss: Positive = 1e4
    """Loss above which a run counts as diverged and stops; on normalised features it starts near 1."""
    ema: Annotated[float, within("(0, 1)")] | None = 0.9999
    """Decay of the moving average of the weights, an option of MDM; None: no moving average."""
    precision: Literal["no", "bf16", "fp16"] | None = None
    """Mixed precision; None: as accelerate was launched, or else bf16 on a GPU."""
    bucket: Count = 1  # Consecutive batches whose clips are sorted by length to reduce padding; 1: no sorting.
    shapes: Parts = 12
    """Different sizes (frames times tokens) that batches are padded to, at most; chosen from the data."""
    cache_text: bool = False  # Encode the captions of the baseline (a frozen encoder) once, before the first step.
    compile: bool = False  # Compile the networks; where steps are captured, they always are.
    graphs: bool = True  # On one GPU, compile the networks and capture steps as CUDA graphs.
    workers: Annotated[int, at_least(0), at_most(1024)] = 4  # Processes that prepare batches.
    checkpoint_every: Count = 10_000  # Steps between checkpoints.
    keep: Parts = 2  # Newest checkpoints that are kept beside the best one; if one is damaged, another remains.
    log_every: Count = 100  # Steps between lines of the log.
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    """Trackers that losses are logged to, beside the JSON lines; wandb needs its package and an account."""
    seed: Natural = 0  # Seed of the initial weights, the batches and the noise.

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.batch % self.accumulate == 0,
            f"training.batch ({self.batch}) must be divisible by training.accumulate ({self.accumulate}).",
        )


@dataclass(frozen=True)
class ValidationConfig(Group, name="validation"):
    """Scores of the generator on the validation split during training, by the independent evaluator."""

    every: Count | None = 20_000  # Steps between validations; None: no validation, and the last weights are the result.
    samples: Annotated[int, at_least(MIN_SAMPLES), Items] = 1024  # Captions that motions are sampled for.
    metric: Literal["fid", "r_precision_3", "mm_dist"] = "fid"  # Metric that decides which weights are best.
    select: Literal["best", "last"] = "best"
    """Weights that become the result; the test split is never used for this choice."""
    patience: Count | None = None  # Validations without improvement after which training ends; None: never early.
    strips: Annotated[int, at_least(0), at_most(1024)] = 4  # Prompts for which each validation saves pictures.
    seed: Natural = 0  # Seed of the samples.
