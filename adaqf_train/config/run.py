"""Every setting of a run, as frozen dataclasses that check themselves and are saved with every run."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import numbers
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from adaclip.config import LORA_MODULES, LoRASettings
from adaqf_train.errors import ConfigError

POCKET_BASE = "pocket"  # encoder.base: train the small still-pose CLIP on the data at hand
MIN_SAMPLES = 8  # of an evaluation; below that no figure means anything
MDM_SAMPLES = 1024  # MDM's `num_samples_limit` of 1,000, rounded up to batches of 32
TRACKERS = ("tensorboard", "wandb")

SchedulerName = Literal["ddpm", "ddim", "dpm++"]
Settings = TypeVar("Settings")  # a dataclass of settings, or of groups of them


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _require_seed(group: str, seed: int) -> None:
    _require(seed >= 0, f"{group}.seed must not be negative, got {seed}.")


def _require_heads(group: str, config: object) -> None:
    """Of networks that attend: positive sizes, and a width the heads can share."""
    for name in ("width", "layers", "heads", "feedforward"):
        value = getattr(config, name)
        _require(value >= 1, f"{group}.{name} must be at least 1, got {value}.")
    width, heads = config.width, config.heads
    _require(width % heads == 0, f"{group}.width {width} is not divisible by {heads} heads.")


def _require_fit(group: str, config: object) -> None:
    """Of contrastive fits."""
    _require(config.steps >= 1, f"{group}.steps must be at least 1, got {config.steps}.")
    _require(config.batch >= 2, f"{group}.batch must be at least 2, got {config.batch}.")
    _require(config.learning_rate > 0, f"{group}.learning_rate must be positive, got {config.learning_rate}.")
    _require_seed(group, config.seed)


@dataclass(frozen=True)
class SyntheticConfig:
    """The procedural data set that `demo` makes for people who have none."""

    clips: int = 3000
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.clips >= 100, f"synthetic.clips must be at least 100 for three usable splits, got {self.clips}.")
        _require_seed("synthetic", self.seed)


@dataclass(frozen=True)
class DataConfig:
    """Which clips are used and how they are cut (HumanML3D's loader)."""

    min_frames: int = 40  # HumanML3D; KIT-ML 24
    max_frames: int = 200  # exclusive, so at most 196 after cutting to whole units
    unit_frames: int = 4  # the extractors halve the frame rate twice
    samples: int | None = None  # clips of the training split in use; the paper's few-sample runs have 500 to 8,000
    samples_seed: int = 0  # which clips; of one seed, the smaller choice is part of the larger

    def __post_init__(self) -> None:
        _require(
            self.unit_frames >= 4 and self.unit_frames % 4 == 0,
            f"data.unit_frames must be a multiple of 4 (the extractors halve the rate twice), got {self.unit_frames}.",
        )
        _require(
            self.unit_frames <= self.min_frames < self.max_frames,
            f"data needs unit_frames <= min_frames < max_frames, got {self.unit_frames}, {self.min_frames}, "
            f"{self.max_frames}.",
        )
        _require(self.samples is None or self.samples >= 2, f"data.samples must be none or >= 2, got {self.samples}.")
        _require(self.samples_seed >= 0, f"data.samples_seed must not be negative, got {self.samples_seed}.")


@dataclass(frozen=True)
class PocketClipConfig:
    """The miniature of CLIP: a text tower trained against single still poses."""

    vocabulary: int = 1000  # entries of its byte-pair encoding
    width: int = 128
    layers: int = 4
    heads: int = 4
    feedforward: int = 512
    projection: int = 128
    steps: int = 300
    batch: int = 128
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.vocabulary >= 514, f"pocket_clip.vocabulary must hold all bytes (>= 514), got {self.vocabulary}.")
        _require_heads("pocket_clip", self)
        _require_fit("pocket_clip", self)


@dataclass(frozen=True)
class EncoderConfig:
    """The text encoder and what of it is trained."""

    base: str = "openai/clip-vit-base-patch32"  # Hub id, folder, or "pocket"
    tuning: Literal["lora", "frozen", "full"] = "lora"  # full: all of CLIP's text tower, and no adapter comes out
    rank: int = 16  # the paper's, for all modules
    alpha: int = 16  # scale 1; not given in the paper
    dropout: float = 0.0  # not given in the paper
    modules: tuple[str, ...] = LORA_MODULES  # section 3.4: query, key and value of the attention, and the MLP

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", tuple(self.modules))  # JSON has lists only
        try:
            LoRASettings(self.rank, self.alpha, self.dropout, self.modules)
        except ValueError as error:
            raise ConfigError(f"encoder: {error}") from error


@dataclass(frozen=True)
class ExtractorConfig:
    """The text and motion extractors that give feedback (T2M's GRU design; defaults are its sizes)."""

    movement: int = 512  # channels of the movement convolution
    motion_hidden: int = 1024  # per direction of the motion BiGRU
    text_hidden: int = 512  # per direction of the text BiGRU
    embedding: int = 512  # co-embedding width
    dropout: float = 0.2
    noise: float = 0.0  # standard deviation of what is added to normalised motions while the extractors learn
    # margin: the loss of T2M's evaluators, for comparison; minimal_pairs: InfoNCE that must also tell captions from
    # those with a dynamic word flipped
    objective: Literal["infonce", "margin", "minimal_pairs"] = "infonce"
    temperature: float = 0.1  # TMR's; the paper does not say, and 1 floors the loss at 2.5-3.2
    margin: float = 10.0  # T2M's, of its Euclidean distances
    steps: int = 20_000  # about 55 epochs of HumanML3D
    batch: int = 64
    learning_rate: float = 1e-4
    full_set: bool = True  # learn from all clips when data.samples leaves the generator a few (appendix A.1)
    seed: int = 1

    def __post_init__(self) -> None:
        _require_fit("extractors", self)
        _require(self.temperature > 0, f"extractors.temperature must be positive, got {self.temperature}.")
        _require(self.margin > 0, f"extractors.margin must be positive, got {self.margin}.")
        _require(self.noise >= 0, f"extractors.noise must not be negative, got {self.noise}.")


@dataclass(frozen=True)
class EvaluatorConfig:
    """The independent evaluator: transformers instead of GRUs, another seed, its own word vectors (TMR's family)."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    feedforward: int = 1024
    embedding: int = 256
    dropout: float = 0.1
    temperature: float = 0.1
    flipped: bool = False  # captions with one flipped word among the negatives
    steps: int = 30_000
    batch: int = 64
    learning_rate: float = 1e-4
    seed: int = 2

    def __post_init__(self) -> None:
        _require_heads("evaluator", self)
        _require_fit("evaluator", self)
        _require(self.temperature > 0, f"evaluator.temperature must be positive, got {self.temperature}.")


@dataclass(frozen=True)
class DenoiserConfig:
    """MDM's transformer; defaults are its decoder's sizes (26.3 M parameters)."""

    arch: Literal["decoder", "encoder"] = (
        "decoder"  # MDM's trans_dec or trans_enc: attend to the text, or start with it
    )
    width: int = 512
    layers: int = 8
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.1
    conditioning: Literal["tokens", "pooled", "both"] = "tokens"  # pooled: MDM's one-token memory
    frames_per_token: int = 1  # more makes the sequence shorter, for machines without a GPU

    def __post_init__(self) -> None:
        _require_heads("denoiser", self)
        _require(self.width % 2 == 0, f"denoiser.width must be even for the sinusoidal positions, got {self.width}.")
        _require(
            self.frames_per_token == 1 or (self.frames_per_token >= 2 and self.frames_per_token % 2 == 0),
            f"denoiser.frames_per_token must be 1 or even, got {self.frames_per_token}.",
        )


@dataclass(frozen=True)
class DiffusionConfig:
    """Gaussian diffusion with x0-prediction on the cosine schedule (MDM)."""

    steps: int = 50  # section 4.1, in training and inference
    text_drop: float = 0.1  # MDM's probability of training without text

    def __post_init__(self) -> None:
        _require(self.steps >= 2, f"diffusion.steps must be at least 2, got {self.steps}.")
        _require(0 <= self.text_drop < 1, f"diffusion.text_drop must lie in [0, 1), got {self.text_drop}.")


@dataclass(frozen=True)
class FeedbackConfig:
    """Motion quality feedback (Eq. 3-5)."""

    motion: float = 10.0  # lambda_M, section 4.4
    text: float = 2.0  # lambda_T, section 4.4
    on_dropped_text: bool = False  # text feedback on items whose text the denoiser did not see
    weighting: Literal["uniform", "alpha_bar"] = "uniform"  # over timesteps; the paper has none
    max_timestep: int | None = None  # the noisiest that gets feedback; none: all do, as in the paper
    judge: Literal["extractors", "official"] = "extractors"  # official: the evaluators of Guo et al. 2022 (Table 7)
    official: str | None = None  # folder of their files: finest.tar and glove/, at any depth

    def __post_init__(self) -> None:
        _require(self.motion >= 0 and self.text >= 0, "feedback.motion and feedback.text must not be negative.")
        _require(
            self.max_timestep is None or self.max_timestep >= 0,
            f"feedback.max_timestep must not be negative, got {self.max_timestep}.",
        )
        _require(
            self.judge != "official" or self.official is not None,
            "feedback.judge=official needs the folder of the official evaluators' files: --set feedback.official=DIR.",
        )

    @property
    def active(self) -> bool:
        return self.motion > 0 or self.text > 0


@dataclass(frozen=True)
class TrainingConfig:
    """The co-optimisation of denoiser and adapter; defaults are section 4.1."""

    steps: int = 600_000
    batch: int = 64  # over all processes
    accumulate: int = 1  # parts that a batch is computed in, one after the other, where it does not fit into memory
    learning_rate: float = 1e-4
    adapter_learning_rate: float | None = None  # of the encoder's parameters; None: the same
    weight_decay: float = 0.0  # MDM
    warmup: int = 0  # steps over which the learning rate rises from nothing; neither the paper nor MDM has any
    drop_at: int | None = 300_000  # learning rate times drop_by from this step on
    drop_by: float = 0.1
    clip_norm: float | None = None  # MDM clips nothing
    max_loss: float = (
        1e4  # beyond it, or not finite, a run has diverged and stops: on normalised features it starts near 1
    )
    ema: float | None = 0.9999  # MDM's option; None: no moving average
    precision: Literal["no", "bf16", "fp16"] | None = None  # None: as accelerate was launched
    bucket: int = 1  # batches in a row whose clips are sorted by length, so that less is padded; 1: none are
    cache_text: bool = False  # captions through frozen networks once, before the first step; see training/cached.py
    compile: bool = False  # torch.compile for the denoiser: worth its minutes on a long run on a GPU
    workers: int = 4  # processes that prepare batches
    checkpoint_every: int = 10_000
    keep: int = 2  # newest checkpoints that are kept, beside the best; a damaged one leaves another
    log_every: int = 100
    trackers: tuple[str, ...] = ("tensorboard",)  # beside the JSON lines; wandb needs its package and account
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "trackers", tuple(self.trackers))  # JSON has lists only
        _require(self.steps >= 1 and self.batch >= 2, "training.steps must be >= 1 and training.batch >= 2.")
        _require(
            self.accumulate >= 1 and self.batch % self.accumulate == 0,
            f"training.batch ({self.batch}) must be divisible by training.accumulate ({self.accumulate}).",
        )
        for name in ("checkpoint_every", "keep", "log_every", "bucket"):
            _require(getattr(self, name) >= 1, f"training.{name} must be >= 1, got {getattr(self, name)}.")
        for name in ("learning_rate", "adapter_learning_rate", "clip_norm", "max_loss", "drop_by"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"training.{name} must be positive, got {value}.")
        for name in ("workers", "warmup", "weight_decay", "drop_at"):
            value = getattr(self, name)
            _require(value is None or value >= 0, f"training.{name} must not be negative, got {value}.")
        _require_seed("training", self.seed)
        _require(
            self.ema is None or 0 < self.ema < 1, f"training.ema must lie between 0 and 1 or be none, got {self.ema}."
        )
        unknown = sorted(set(self.trackers) - set(TRACKERS))
        _require(not unknown, f"training.trackers knows no {', '.join(unknown)}: choose from {', '.join(TRACKERS)}.")


@dataclass(frozen=True)
class ValidationConfig:
    """Scores of the generator on the validation split while it is trained, by the independent evaluator."""

    every: int | None = 20_000  # steps; none: no validation, and the last weights are the result
    samples: int = 1024  # captions that motions are sampled for
    metric: Literal["fid", "r_precision_3", "mm_dist"] = "fid"  # what is best is told by it
    select: Literal["best", "last"] = "best"  # which weights are the result; the test split has no say in it
    patience: int | None = None  # validations without a better one after which training ends; none: never early
    strips: int = 4  # prompts of which each validation leaves pictures; 0: none
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("every", "patience"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"validation.{name} must be none or at least 1, got {value}.")
        _require(self.samples >= MIN_SAMPLES, f"validation.samples must be at least {MIN_SAMPLES}, got {self.samples}.")
        _require(self.strips >= 0, f"validation.strips must not be negative, got {self.strips}.")
        _require_seed("validation", self.seed)


@dataclass(frozen=True)
class SamplingConfig:
    """How motions are drawn from the trained model."""

    guidance: float = 2.5  # classifier-free guidance weight; MDM's
    scheduler: SchedulerName = "ddpm"
    steps: int = 50
    batch: int = 64

    def __post_init__(self) -> None:
        known = typing.get_args(SchedulerName)
        _require(
            self.scheduler in known,
            f"sampling.scheduler must be one of {', '.join(known)}, got {self.scheduler!r}.",
        )
        for name in ("steps", "batch"):
            value = getattr(self, name)
            _require(
                _is_whole(value) and value >= 1, f"sampling.{name} must be a whole number of at least 1, got {value!r}."
            )
        _require(
            _is_real(self.guidance) and 0 <= self.guidance < math.inf,
            f"sampling.guidance must be a finite number of at least 0, got {self.guidance!r}.",
        )


@dataclass(frozen=True)
class EvaluationConfig:
    """The protocol of Guo et al. 2022."""

    split: Literal["test", "val"] = "test"  # val while options are being chosen
    protocol: Literal["full", "mdm1024"] = "full"  # mdm1024: as MDM, 1,024 motions against the whole split's real ones
    replications: int = 20
    pool: int = 32  # captions among which R-precision looks for the right one
    diversity_pairs: int = 300
    multimodality_texts: int | None = 100  # None: no MultiModality, which samples texts x repeats motions more
    multimodality_repeats: int = 30  # motions of each of those texts
    multimodality_pairs: int = 10  # of motions of one text whose distance is taken
    max_samples: int | None = None  # None: the whole split
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.replications >= 1, f"evaluation.replications must be at least 1, got {self.replications}.")
        _require(self.pool >= 3, f"evaluation.pool must be at least 3 for R-precision at 3, got {self.pool}.")
        _require(self.diversity_pairs >= 1, f"evaluation.diversity_pairs must be >= 1, got {self.diversity_pairs}.")
        texts, repeats, pairs = self.multimodality_texts, self.multimodality_repeats, self.multimodality_pairs
        _require(texts is None or texts >= 1, f"evaluation.multimodality_texts must be none or >= 1, got {texts}.")
        _require(repeats >= 2, f"evaluation.multimodality_repeats must be at least 2, got {repeats}.")
        _require(
            1 <= pairs <= repeats,
            f"evaluation.multimodality_pairs must lie between 1 and multimodality_repeats ({repeats}), got {pairs}.",
        )
        _require(
            self.max_samples is None or self.max_samples >= MIN_SAMPLES,
            f"evaluation.max_samples must be none or at least {MIN_SAMPLES}, got {self.max_samples}.",
        )
        _require(
            self.max_samples is None or self.protocol == "full",
            f"evaluation.protocol={self.protocol} sets the number of samples: evaluation.max_samples must be none.",
        )
        _require_seed("evaluation", self.seed)

    @property
    def samples(self) -> int | None:
        """How many motions a replication asks for; None: as many as the split has."""
        return MDM_SAMPLES if self.protocol == "mdm1024" else self.max_samples


@dataclass(frozen=True)
class RunConfig:
    """One run: data in, a baseline, an AdaQF model, an adapter and a report out."""

    recipe: str = "humanml3d"
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pocket_clip: PocketClipConfig = field(default_factory=PocketClipConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    extractors: ExtractorConfig = field(default_factory=ExtractorConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        _require(
            self.data.unit_frames % self.denoiser.frames_per_token == 0,
            f"data.unit_frames ({self.data.unit_frames}) must be a multiple of denoiser.frames_per_token "
            f"({self.denoiser.frames_per_token}).",
        )
        _require(
            self.sampling.steps <= self.diffusion.steps,
            f"sampling.steps ({self.sampling.steps}) must not exceed diffusion.steps ({self.diffusion.steps}).",
        )
        last = self.feedback.max_timestep
        _require(
            last is None or last < self.diffusion.steps,
            f"feedback.max_timestep ({last}) must be below diffusion.steps ({self.diffusion.steps}).",
        )

    def baseline(self) -> RunConfig:
        """The same run without feedback and with a frozen encoder; nothing else differs."""
        return replace(
            self,
            feedback=FeedbackConfig(motion=0.0, text=0.0),  # how it would be weighted and judged is nothing to it
            encoder=replace(self.encoder, tuning="frozen"),
        )


def to_dict(config: object) -> dict:
    """A configuration as nested dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(content: Mapping[str, object]) -> RunConfig:
    """The configuration that `to_dict` wrote; ConfigError for a field that does not exist."""
    hints = typing.get_type_hints(RunConfig)
    try:
        return RunConfig(
            **{
                name: hints[name](**value) if dataclasses.is_dataclass(hints.get(name)) else value
                for name, value in content.items()
            }
        )
    except TypeError as error:
        raise ConfigError(f"The saved configuration does not fit this version: {error}.") from error


def digest(content: object) -> str:
    """A short hash of anything JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def override(config: Settings, settings: Sequence[str]) -> Settings:
    """A configuration with settings such as "diffusion.steps=50"; of two for one field the later counts.

    Settings are applied together, so two that only hold together may come in any order. Raises ConfigError for a
    field that does not exist (naming the nearest one) or a value of another type.
    """
    known = dict(_fields(type(config)))
    changes: dict[str, object] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ConfigError(f"--set {setting}: expected name=value, such as diffusion.steps=50.")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0) or [""]
            raise ConfigError(f"There is no setting {name!r}. The nearest one is {near[0]!r}.")
        changes[name] = _parse(text, known[name], name)
    return _replaced(config, changes)


def _replaced(config: Settings, changes: Mapping[str, object]) -> Settings:
    """changes: {"group.field": value}; each group is rebuilt once, so that it is checked as a whole."""
    groups: dict[str, dict[str, object]] = {}
    fields: dict[str, object] = {}
    for name, value in changes.items():
        group, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(group, {})[rest] = value
        else:
            fields[name] = value
    return replace(config, **fields, **{group: _replaced(getattr(config, group), new) for group, new in groups.items()})


def _fields(cls: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, hint


def _parse(text: str, hint: object, name: str) -> object:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):  # only "X | None" occurs
        if text.lower() == "none":
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)), name)
    if origin is Literal:
        _require(text in arguments, f"{name}={text}: choose from {', '.join(map(str, arguments))}.")
        return text
    if origin is tuple:
        return tuple(_parse(part.strip(), arguments[0], name) for part in text.split(",") if part.strip())
    if hint is bool:
        _require(text.lower() in ("true", "false"), f"{name}={text}: expected true or false.")
        return text.lower() == "true"
    try:
        return hint(text.replace("_", "")) if hint is int else hint(text)
    except ValueError:
        raise ConfigError(f"{name}={text}: expected {hint.__name__}.") from None
