"""The co-optimisation: denoiser and adapter under L = L_mse + lambda_M L_M + lambda_T L_T (Eq. 5).

With both lambdas at zero and a frozen encoder this is MDM's training, which is the baseline. Further terms, all off in
the paper's setting: physics of the decoded joints, contrast of text and motion, and alignment of a hidden layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaqf_train import seeding
from adaqf_train.config import RunConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.encoders.folded import FoldedTower
from adaqf_train.encoders.moclip import ADAPTER, MoClipObjective, load_aligner, motion_encoder
from adaqf_train.encoders.tuning import build_encoder
from adaqf_train.generators.diffusion import Diffusion, noised
from adaqf_train.generators.mdm.feedback import Feedback, HiddenAlignment, Physics, balanced
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.networks import Denoiser, build_denoiser
from adaqf_train.judges.base import Judge
from adaqf_train.judges.extractors import MotionExtractor
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import masked_mse
from adaqf_train.training.objective import Losses, Objective
from adaqf_train.training.validation import Validation


class AdaQFObjective(Objective):
    """Implements Eq. 5."""

    caches_text = True

    def __init__(
        self,
        accelerator: Accelerator,
        encoder: AdaCLIP,
        denoiser: Denoiser,
        diffusion: Diffusion,
        judge: Judge | None,
        config: RunConfig,
        dataset: MotionDataset,
        aligner: MotionExtractor | None = None,
    ) -> None:
        """encoder: what requires gradients is trained. judge: needed with feedback.

        dataset: whose captions and statistics batches have. aligner: the motion encoder of the aligned start, needed
        with `alignment.weight`.
        """
        super().__init__()
        captions = dataset.captions()
        self.encoder, self.denoiser, self.config = encoder.to(accelerator.device).eval(), denoiser, config
        self.diffusion = config.diffusion
        self.tower, self.compiles = partial(self.encoder, trim=False), _blocks(denoiser)
        if accelerator.device.type == "cuda" and FoldedTower.supports(encoder):
            dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
            self.tower = FoldedTower(encoder, dtype)
            self.compiles += (self.tower,)
        self.register_buffer("alpha_bar", diffusion.alpha_bar, persistent=False)
        self.captions = CaptionTable(encoder.tokenizer, captions, device=accelerator.device)
        self.features = None
        if config.training.cache_text and not self._tuned:
            self.features = FrozenCaptions(encoder, captions, "both")
        self.capturable = self.features is None
        self.feedback = self.hidden = self.physics = self.alignment = None
        if config.feedback.active:
            if judge is None:
                raise ValueError("Feedback needs extractors: train them first (adaqf extractors).")
            judge = judge.to(accelerator.device)
            self.feedback = Feedback(judge, config.feedback, diffusion.alpha_bar, self.captions)
            if config.feedback.hidden:
                self.hidden = HiddenAlignment(judge, denoiser)
        if config.physics.active:
            statistics = (torch.from_numpy(part) for part in (dataset.mean, dataset.std))
            self.physics = Physics(config.physics, *statistics)
        if config.alignment.weight and self._tuned:
            if aligner is None:
                raise ValueError("alignment.weight needs the motion encoder of the aligned start.")
            aligner = aligner.to(accelerator.device)
            self.alignment = MoClipObjective(accelerator, encoder, aligner, captions, config.alignment)

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        found = {"denoiser": self.denoiser} | ({"encoder": self.encoder} if self._tuned else {})
        found |= {} if self.hidden is None else {"projector": self.hidden.project}
        return found | ({} if self.alignment is None else {"aligner": self.alignment.motion})

    def forward(self, batch: MotionBatch) -> Losses:
        x_t = noised(batch.motion, batch.noise, self.alpha_bar[batch.timestep])
        text, seen = self._text(batch), None if self.hidden is None else []
        generated = self.denoiser(x_t, batch.timestep, text, batch.mask, batch.keep_text, seen)
        # In float32 from here on, whatever autocast computed.
        generated = generated.float()
        mse = masked_mse(generated, batch.motion, batch.mask).mean()
        loss, parts = mse, {"mse": mse}
        if self.feedback is not None:
            given, found = self._feedback(generated, mse, batch)
            loss, parts = loss + given, parts | found
        if self.hidden is not None:
            parts["hidden"] = self.hidden(seen[(len(seen) - 1) // 2], batch).mean()
            early = self._progress(batch) < self.config.feedback.hidden_until
            loss = loss + self.config.feedback.hidden * early * parts["hidden"]
        if self.physics is not None:
            parts["velocity"], parts["feet"] = (part.mean() for part in self.physics(generated, batch))
            weights = self.config.physics
            loss = loss + weights.velocity * parts["velocity"] + weights.feet * parts["feet"]
        if self.alignment is not None:
            aligned, found = self.alignment.losses(batch, text.pooled)
            loss = loss + self.config.alignment.weight * aligned
            parts |= {name: found[name] for name in ("contrastive", "tether")}
        return loss, {"loss": loss} | parts

    def _feedback(self, generated: Tensor, mse: Tensor, batch: MotionBatch) -> Losses:
        """The weighted feedback, and its two terms without weights."""
        config = self.config.feedback
        motion, text = (part.mean() for part in self.feedback(generated, batch))
        given = config.motion * motion + config.text * text
        if config.balance is not None:
            given = balanced(given, mse, generated, config.balance)
        if config.fade and self.config.training.cool_down:
            given = given * ((1 - self._progress(batch)) / self.config.training.cool_down).clamp(max=1)
        return given, {"motion": motion, "text": text}

    def _progress(self, batch: MotionBatch) -> Tensor:
        """The share of all steps that were taken before this batch, a scalar on the device."""
        training = self.config.training
        return batch.index[0].div(training.batch, rounding_mode="floor") / training.steps

    def _text(self, batch: MotionBatch) -> TextFeatures:
        if self.features is not None:
            return self.features.features(batch.captions)
        return self.tower(*self.captions.tokens(batch.caption, batch.tokens))

    @property
    def _tuned(self) -> bool:
        return any(parameter.requires_grad for parameter in self.encoder.parameters())


def _blocks(denoiser: Denoiser) -> tuple[nn.Module, ...]:
    """The parts that are compiled by themselves: the layers of a decoder share their code, so one is compiled."""
    return tuple(denoiser.decoder.layers) if denoiser.config.arch == "decoder" else (denoiser,)


def fit_adaqf(
    accelerator: Accelerator,
    dataset: MotionDataset,
    base: str,
    judge: Judge | None,
    config: RunConfig,
    place: Place,
    score: Callable[[MDMGenerator, int], Mapping[str, float]] | None = None,
    aligned: Path | None = None,
) -> MDMGenerator:
    """Train a generator of MDM's family, and its text encoder as `config.encoder.tuning` says; resumes if interrupted.

    judge: needed when the feedback is active. score: figures after a step, needed when `config.validation` is on.
    aligned: folder of the encoder's start, as `save_aligned` writes it; None: the base. The generator has its averaged
    weights: the best on the validation split if that is asked for, else the last.
    """
    torch.manual_seed(seeding.mix(config.training.seed))
    diffusion = Diffusion(config.diffusion)
    # InfoNCE compares pooled vectors, so their projection learns as well.
    reads = "both" if config.alignment.weight else config.denoiser.conditioning
    encoder = build_encoder(base, config.encoder, reads, aligned and aligned / ADAPTER)
    denoiser = build_denoiser(encoder, dataset.features, config.denoiser, config.diffusion.steps)
    aligner = None
    if config.alignment.weight and aligned is not None:
        aligner = load_aligner(aligned, motion_encoder(dataset.features, encoder, config.extractors))
    objective = AdaQFObjective(accelerator, encoder, denoiser, diffusion, judge, config, dataset, aligner)

    generator = MDMGenerator(
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
    validation = None
    if config.validation.every is not None:
        if score is None:
            raise ValueError("config.validation asks for scores: give `score`, or set validation.every to None.")
        validation = Validation(config.validation, lambda step: score(generator, step))
    fit(accelerator, dataset, objective, config.training, place, validation)
    return generator
