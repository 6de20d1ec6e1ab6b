"""The co-optimisation: denoiser and adapter under L = L_mse + lambda_M L_M + lambda_T L_T (Eq. 5).

With both lambdas at zero and a frozen encoder this is MDM's training, which is the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaqf_train import seeding
from adaqf_train.config import FeedbackConfig, RunConfig, TrainingConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.cached import CaptionEmbeddings, CaptionFeatures
from adaqf_train.errors import ConfigError
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.denoiser import Denoiser
from adaqf_train.generators.mdm.generator import MotionGenerator, build_denoiser
from adaqf_train.judges.extractors import Extractors
from adaqf_train.layers import freeze
from adaqf_train.training import checkpoint, loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.losses import consistency, masked_mse
from adaqf_train.training.validation import Validation

# A generator with the weights of that many steps -> its figures; given by who knows how to evaluate.
OnValidation = Callable[[MotionGenerator, int], Mapping[str, float]]


@runtime_checkable
class CaptionJudge(Protocol):
    """A frozen module that gives feedback like the extractors, but reads captions as they are written."""

    def motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) normalised features, mask (B, T) -> (B, E), differentiable."""

    def captions(self, captions: Sequence[str]) -> Tensor:
        """(B, E)."""


@dataclass(frozen=True)
class Feedback:
    """Compares generated motions with real ones and with their text in a judge's space."""

    judge: Extractors | CaptionJudge
    config: FeedbackConfig
    alpha_bar: Tensor  # (steps,) of the diffusion
    embeddings: CaptionEmbeddings | None = None  # of the captions, when they were computed before the first step

    def __call__(self, generated: Tensor, batch: MotionBatch, ids: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """L_M (Eq. 3) and L_T (Eq. 4) for each item, (B,) each.

        generated: (B, T, D) normalised features with gradients; ids, text_mask: (B, L) tokens of the captions.
        """
        with torch.no_grad():
            real = self._motion(batch.motion, batch)
            text = self._text(batch, ids, text_mask)
        embedding = self._motion(generated, batch)
        motion_loss, text_loss = consistency(embedding, real), consistency(embedding, text)
        if not self.config.on_dropped_text:
            text_loss = text_loss * batch.keep_text
        weight = self._weight(batch.timestep)
        return (motion_loss, text_loss) if weight is None else (motion_loss * weight, text_loss * weight)

    def _motion(self, motion: Tensor, batch: MotionBatch) -> Tensor:
        if isinstance(self.judge, CaptionJudge):
            return self.judge.motion(motion, batch.mask)
        return self.judge.motion(motion, batch.mask, batch.frames)

    def _text(self, batch: MotionBatch, ids: Tensor, text_mask: Tensor) -> Tensor:
        if isinstance(self.judge, CaptionJudge):
            return self.judge.captions(batch.captions)
        return self.embeddings(batch.captions) if self.embeddings else self.judge.text(ids, text_mask)

    def _weight(self, timestep: Tensor) -> Tensor | None:
        """(B,), by how noisy the input was; None: all count the same."""
        weight = None
        if self.config.weighting == "alpha_bar":
            weight = self.alpha_bar.to(timestep.device)[timestep]
        if self.config.max_timestep is not None:
            heard = (timestep <= self.config.max_timestep).float()
            weight = heard if weight is None else weight * heard
        return weight


def fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    base: str,
    judge: Extractors | CaptionJudge | None,
    config: RunConfig,
    *,
    name: str,
    checkpoints: Path,
    log: Path,
    on_validation: OnValidation | None = None,
) -> MotionGenerator:
    """Trains a generator and gives it with its averaged weights: the best on val if that is asked for, else the last.

    base: Hub id or folder of the CLIP text encoder; judge: extractors or what takes their place, needed when the
    feedback is active; on_validation: what scores the generator meanwhile, needed when config.validation asks for it.
    A fit that was interrupted goes on from its newest checkpoint. Raises TrainingStopped after SIGTERM.
    """
    training = config.training
    torch.manual_seed(seeding.mix(training.seed))
    diffusion = Diffusion(config.diffusion)
    encoder = build_encoder(base, config)
    denoiser = build_denoiser(encoder, dataset.features, config.denoiser, config.diffusion.steps)
    captions = dataset.captions() if training.cache_text else None
    objective = Objective(accelerator, encoder, denoiser, diffusion, judge, config, captions)
    tuned = config.encoder.tuning != "frozen"
    state = TrainState({"denoiser": denoiser} | ({"encoder": encoder} if tuned else {}), objective.optimizer)
    source = StepBatches(
        dataset,
        training.batch,
        training.seed,
        diffusion=config.diffusion,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        bucket=config.training.bucket,
    )
    _check_parts(accelerator, training)

    def generator() -> MotionGenerator:
        return MotionGenerator(
            encoder,
            denoiser,
            diffusion,
            torch.from_numpy(dataset.mean),
            torch.from_numpy(dataset.std),
            config.sampling,
            dataset.config.unit_frames,
            dataset.config.max_frames,
            own_base=config.encoder.tuning == "full",
        )

    def score(step: int) -> Mapping[str, float]:
        with state.averaged():
            try:
                return on_validation(generator(), step)
            finally:
                denoiser.train()
                encoder.train(tuned)

    validation = None
    if config.validation.every is not None:
        if on_validation is None:
            raise ValueError("config.validation asks for scores: give on_validation, or set validation.every to None.")
        validation = Validation(config.validation, training.steps, score, checkpoints / "best")
    settings = loop.LoopSettings(
        name=name,
        steps=training.steps,
        seed=training.seed,
        log=log,
        trackers=training.trackers,
        checkpoints=checkpoints,
        checkpoint_every=training.checkpoint_every,
        keep=training.keep,
        log_every=training.log_every,
        accumulate=training.accumulate,
        clip_norm=training.clip_norm,
        max_loss=training.max_loss,
        average_decay=training.ema,
        rate=lambda step: _rate(step, training),
    )
    loop.run(
        accelerator,
        state,
        settings,
        lambda start: source.from_step(start, training.steps, training.workers),
        objective,
        replicas=objective.replicas,
        validation=validation,
    )
    if validation is not None and config.validation.select == "best" and validation.best.is_dir():
        checkpoint.read(validation.best, state)
    state.use_average()
    accelerator.free_memory()
    encoder.cpu()
    denoiser.cpu()
    return generator()


def build_encoder(base: str, config: RunConfig) -> AdaCLIP:
    """The text encoder, of which only what is tuned requires gradients.

    Tuned as a whole it keeps its fresh adapter, which changes nothing.
    """
    own = config.encoder
    encoder = AdaCLIP.from_base(base, rank=own.rank, alpha=own.alpha, dropout=own.dropout, modules=own.modules)
    if own.tuning == "lora":
        return encoder
    encoder.requires_grad_(own.tuning == "full")
    for parameter in encoder.adapter_parameters():
        parameter.requires_grad_(False)
    if config.denoiser.conditioning == "tokens":  # which are read before the projection: nothing would reach it
        encoder.text_model.base_model.model.text_projection.requires_grad_(False)
    return encoder


class Objective:
    """Eq. 5 on a batch, with the modules that accelerate has wrapped."""

    def __init__(
        self,
        accelerator: Accelerator,
        encoder: AdaCLIP,
        denoiser: Denoiser,
        diffusion: Diffusion,
        judge: Extractors | CaptionJudge | None,
        config: RunConfig,
        captions: Sequence[str] | None = None,
    ) -> None:
        """captions: all that can occur, where what frozen networks make of them shall be computed beforehand."""
        self.tokenize, self.diffusion, self.config = encoder.tokenize, diffusion, config
        rate = config.training.learning_rate
        groups = [{"params": list(denoiser.parameters()), "lr": rate}]
        tuned = [p for p in encoder.parameters() if p.requires_grad]
        if tuned:
            own = config.training.adapter_learning_rate
            groups.append({"params": tuned, "lr": rate if own is None else own})
        optimizer = loop.adamw(groups, config.training.weight_decay, accelerator)
        if config.training.compile:
            denoiser.compile(dynamic=True)  # batches differ in length
        self.denoiser: nn.Module = denoiser.train()
        self.encoder: nn.Module = encoder.train(bool(tuned))
        self.denoiser, self.optimizer = accelerator.prepare(denoiser, optimizer)
        # Data parallelism refuses a module without trainable parameters.
        self.encoder = accelerator.prepare(encoder) if tuned else encoder.to(accelerator.device)
        self.replicas = (self.denoiser, self.encoder) if tuned else (self.denoiser,)
        self.features = CaptionFeatures(encoder, captions) if captions and not tuned else None
        self.feedback = None
        if config.feedback.active:
            if judge is None:
                raise ValueError("Feedback needs extractors: train them first (adaqf extractors).")
            frozen, embeddings = freeze(judge.to(accelerator.device)), None
            if captions and not isinstance(frozen, CaptionJudge):
                embeddings = CaptionEmbeddings(frozen.text, encoder, captions)
            self.feedback = Feedback(frozen, config.feedback, diffusion.alpha_bar, embeddings)

    def __call__(self, batch: MotionBatch) -> loop.Losses:
        """The batch's mean loss, and its parts."""
        ids, text_mask = self.tokenize(batch.captions)
        text: TextFeatures = self.features(batch.captions) if self.features else self.encoder(ids, text_mask)
        x_t = self.diffusion.noised(batch.motion, batch.timestep, batch.noise)
        generated = self.denoiser(x_t, batch.timestep, text, batch.mask, batch.keep_text)
        mse = masked_mse(generated, batch.motion, batch.mask).mean()
        if self.feedback is None:
            return mse, {"loss": mse, "mse": mse}
        motion, text_loss = (part.mean() for part in self.feedback(generated, batch, ids, text_mask))
        loss = mse + self.config.feedback.motion * motion + self.config.feedback.text * text_loss
        return loss, {"loss": loss, "mse": mse, "motion": motion, "text": text_loss}


def _rate(step: int, training: TrainingConfig) -> float:
    """The factor on the learning rates: a linear rise, if any, and the paper's one drop."""
    rise = min(1.0, (step + 1) / training.warmup) if training.warmup else 1.0
    return rise * (training.drop_by if training.drop_at is not None and step >= training.drop_at else 1.0)


def _check_parts(accelerator: Accelerator, training: TrainingConfig) -> None:
    share = training.batch // accelerator.num_processes
    if share % training.accumulate:
        raise ConfigError(
            f"training.batch={training.batch} gives each of {accelerator.num_processes} processes {share} clips, which "
            f"training.accumulate={training.accumulate} does not divide. Change one of them."
        )
