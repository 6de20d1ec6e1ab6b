"""The co-optimisation: denoiser and adapter under L = L_mse + lambda_M L_M + lambda_T L_T (Eq. 5).

With both lambdas at zero and a frozen encoder this is MDM's training, which is the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaqf_train import seeding
from adaqf_train.config import FeedbackConfig, RunConfig, TrainingConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.models.denoiser import Denoiser
from adaqf_train.models.diffusion import Diffusion
from adaqf_train.models.extractors import Extractors
from adaqf_train.models.generator import MotionGenerator, build_denoiser
from adaqf_train.models.layers import freeze
from adaqf_train.training import loop
from adaqf_train.training.cached import CaptionEmbeddings, CaptionFeatures
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.losses import consistency, masked_mse


@dataclass(frozen=True)
class Feedback:
    """Compares generated motions with real ones and with their text in the extractors' space."""

    extractors: Extractors
    config: FeedbackConfig
    alpha_bar: Tensor  # (steps,) of the diffusion
    embeddings: CaptionEmbeddings | None = None  # of the captions, when they were computed before the first step

    def __call__(self, generated: Tensor, batch: MotionBatch, ids: Tensor, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """L_M (Eq. 3) and L_T (Eq. 4) for each item, (B,) each.

        generated: (B, T, D) normalised features with gradients; ids, text_mask: (B, L) tokens of the captions.
        """
        with torch.no_grad():
            real = self.extractors.motion(batch.motion, batch.mask, batch.frames)
            text = self.embeddings(batch.captions) if self.embeddings else self.extractors.text(ids, text_mask)
        embedding = self.extractors.motion(generated, batch.mask, batch.frames)
        motion_loss, text_loss = consistency(embedding, real), consistency(embedding, text)
        if not self.config.on_dropped_text:
            text_loss = text_loss * batch.keep_text
        if self.config.weighting == "alpha_bar":
            weight = self.alpha_bar.to(generated.device)[batch.timestep]
            motion_loss, text_loss = motion_loss * weight, text_loss * weight
        return motion_loss, text_loss


def fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    base: str,
    extractors: Extractors | None,
    config: RunConfig,
    *,
    name: str,
    checkpoints: Path,
    log: Path,
) -> MotionGenerator:
    """Trains a generator and gives it with its averaged weights.

    base: Hub id or folder of the CLIP text encoder; extractors: needed when the feedback is active. A fit that
    was interrupted goes on from its newest checkpoint.
    """
    torch.manual_seed(seeding.mix(config.training.seed))
    diffusion = Diffusion(config.diffusion)
    encoder = AdaCLIP.from_base(
        base, rank=config.encoder.rank, alpha=config.encoder.alpha, dropout=config.encoder.dropout
    )
    denoiser = build_denoiser(encoder, dataset.features, config.denoiser, config.diffusion.steps)
    tuned = config.encoder.tuning == "lora"
    if not tuned:
        encoder.requires_grad_(False)
    captions = dataset.captions() if config.training.cache_text else None
    objective = Objective(accelerator, encoder, denoiser, diffusion, extractors, config, captions)
    state = TrainState({"denoiser": denoiser} | ({"encoder": encoder} if tuned else {}), objective.optimizer)
    source = StepBatches(
        dataset,
        config.training.batch,
        config.training.seed,
        diffusion=config.diffusion,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        bucket=config.training.bucket,
    )
    settings = loop.LoopSettings(
        name=name,
        steps=config.training.steps,
        seed=config.training.seed,
        log=log,
        checkpoints=checkpoints,
        checkpoint_every=config.training.checkpoint_every,
        log_every=config.training.log_every,
        clip_norm=config.training.clip_norm,
        average_decay=config.training.ema,
        rate=lambda step: _rate(step, config.training),
    )
    loop.run(
        accelerator,
        state,
        settings,
        lambda start: source.from_step(start, config.training.steps, config.training.workers),
        objective,
    )
    loop.use_average(state)
    accelerator.free_memory()
    return MotionGenerator(
        encoder.cpu(),
        denoiser.cpu(),
        diffusion,
        torch.from_numpy(dataset.mean),
        torch.from_numpy(dataset.std),
        config.sampling,
        dataset.config.unit_frames,
        dataset.config.max_frames,
    )


class Objective:
    """Eq. 5 on a batch, with the modules that accelerate has wrapped."""

    def __init__(
        self,
        accelerator: Accelerator,
        encoder: AdaCLIP,
        denoiser: Denoiser,
        diffusion: Diffusion,
        extractors: Extractors | None,
        config: RunConfig,
        captions: Sequence[str] | None = None,
    ) -> None:
        """captions: all that can occur, where what frozen networks make of them shall be computed beforehand."""
        self.tokenize, self.diffusion, self.config = encoder.tokenize, diffusion, config
        rate = config.training.learning_rate
        groups = [{"params": list(denoiser.parameters()), "lr": rate}]
        adapter = [p for p in encoder.parameters() if p.requires_grad]
        if adapter:
            own = config.training.adapter_learning_rate
            groups.append({"params": adapter, "lr": rate if own is None else own})
        fused = accelerator.device.type == "cuda"
        optimizer = torch.optim.AdamW(groups, weight_decay=config.training.weight_decay, fused=fused)
        self.denoiser: nn.Module = denoiser.train()
        self.encoder: nn.Module = encoder.train(bool(adapter))
        self.denoiser, self.optimizer = accelerator.prepare(denoiser, optimizer)
        # Data parallelism refuses a module without trainable parameters.
        self.encoder = accelerator.prepare(encoder) if adapter else encoder.to(accelerator.device)
        self.features = CaptionFeatures(encoder, captions) if captions and not adapter else None
        self.feedback = None
        if config.feedback.active:
            if extractors is None:
                raise ValueError("Feedback needs extractors: train them first (run.py extractors).")
            frozen = freeze(extractors.to(accelerator.device))
            embeddings = CaptionEmbeddings(frozen.text, encoder, captions) if captions else None
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
    """The paper's schedule: one drop."""
    return training.drop_by if training.drop_at is not None and step >= training.drop_at else 1.0
