"""The co-optimisation: denoiser and adapter under L = L_mse + lambda_M L_M + lambda_T L_T (Eq. 5).

With both lambdas at zero and a frozen encoder this is MDM's training, which is the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP, TextFeatures
from adaqf_train import seeding
from adaqf_train.config import FeedbackConfig, RunConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.encoders.folded import FoldedTower
from adaqf_train.encoders.tuning import build_encoder
from adaqf_train.generators.diffusion import Diffusion
from adaqf_train.generators.mdm.generator import MDMGenerator
from adaqf_train.generators.mdm.networks import Denoiser, build_denoiser
from adaqf_train.judges.base import Judge
from adaqf_train.layers import freeze
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import consistency, masked_mse
from adaqf_train.training.objective import Losses, Objective
from adaqf_train.training.validation import Validation


class Feedback(nn.Module):
    """Compares generated motions with real ones and with their text in a frozen judge's space (Eq. 3 and 4)."""

    def __init__(self, judge: Judge, config: FeedbackConfig, alpha_bar: Tensor, captions: CaptionTable) -> None:
        """alpha_bar: (steps,) of the diffusion. captions: all that batches refer to; embedded once, here."""
        super().__init__()
        self.judge, self.config = freeze(judge), config
        weight = alpha_bar if config.weighting == "alpha_bar" else torch.ones_like(alpha_bar)
        if config.max_timestep is not None:
            weight = weight * (torch.arange(len(weight)) <= config.max_timestep)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("captions", judge.embed_captions(captions), persistent=False)

    def forward(self, generated: Tensor, batch: MotionBatch) -> tuple[Tensor, Tensor]:
        """Compute L_M and L_T, (B,) each, weighted by timestep, of generated normalised features (B, T, D)."""
        with torch.no_grad():
            real = self.judge.embed_motion(batch.motion, batch.mask)
        embedding = self.judge.embed_motion(generated, batch.mask)
        motion, text = consistency(embedding, real), consistency(embedding, self.captions[batch.caption])
        if not self.config.on_dropped_text:
            text = text * batch.keep_text
        weight = self.weight[batch.timestep]
        return motion * weight, text * weight


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
        captions: Sequence[str],
    ) -> None:
        """encoder: what requires gradients is trained. judge: needed with feedback. captions: all that can occur."""
        super().__init__()
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
        self.feedback = None
        if config.feedback.active:
            if judge is None:
                raise ValueError("Feedback needs extractors: train them first (adaqf extractors).")
            judge = judge.to(accelerator.device)
            self.feedback = Feedback(judge, config.feedback, diffusion.alpha_bar, self.captions)

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"denoiser": self.denoiser} | ({"encoder": self.encoder} if self._tuned else {})

    def forward(self, batch: MotionBatch) -> Losses:
        alpha_bar = self.alpha_bar[batch.timestep][:, None, None]
        x_t = alpha_bar.sqrt() * batch.motion + (1 - alpha_bar).sqrt() * batch.noise
        generated = self.denoiser(x_t, batch.timestep, self._text(batch), batch.mask, batch.keep_text)
        mse = masked_mse(generated, batch.motion, batch.mask).mean()
        if self.feedback is None:
            return mse, {"loss": mse, "mse": mse}
        motion, text = (part.mean() for part in self.feedback(generated.float(), batch))
        weights = self.config.feedback
        loss = mse + weights.motion * motion + weights.text * text
        return loss, {"loss": loss, "mse": mse, "motion": motion, "text": text}

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
) -> MDMGenerator:
    """Train a generator of MDM's family, and its text encoder as `config.encoder.tuning` says; resumes if interrupted.

    judge: needed when the feedback is active. score: figures after a step, needed when `config.validation` is on. The
    generator has its averaged weights: the best on the validation split if that is asked for, else the last.
    """
    torch.manual_seed(seeding.mix(config.training.seed))
    diffusion = Diffusion(config.diffusion)
    encoder = build_encoder(base, config.encoder, config.denoiser.conditioning)
    denoiser = build_denoiser(encoder, dataset.features, config.denoiser, config.diffusion.steps)
    objective = AdaQFObjective(accelerator, encoder, denoiser, diffusion, judge, config, dataset.captions())

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
