"""The contrastive objective, and the fits of extractors (section 3.2) and evaluator that minimise it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from adaqf_train import seeding
from adaqf_train.config import EvaluatorConfig, ExtractorConfig, JointEvaluatorConfig, TrainingConfig
from adaqf_train.config.networks import ContrastiveFit
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.judges.base import Judge
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import contrastive, margin_contrastive, minimal_pair_loss
from adaqf_train.training.objective import Losses, Objective

CHECKPOINTS = 10  # over a fit: at the paper's sizes one every minute
WARMUP = 50  # steps
Trained = TypeVar("Trained", bound=Judge)


class ContrastiveObjective(Objective):
    """The loss of two towers on a batch: towers(ids, text mask, motion, motion mask) -> embeddings (B, E) each."""

    capturable = True

    def __init__(
        self,
        accelerator: Accelerator,
        towers: nn.Module,
        captions: CaptionTable,
        *,
        temperature: float,
        cosine_weight: float = 0.0,
        margin: float | None = None,
        noise: float = 0.0,
        adversarial: float = 0.0,
    ) -> None:
        """The rows of all processes are negatives of each other; flipped captions of the table are negatives too.

        temperature: of the cosines in InfoNCE. cosine_weight: of the mean of 1 - cosine of pairs (Eq. 2). margin: of
        Euclidean distances, for T2M's margin loss in place of Eq. 2. noise: its deviation, on normalised motions.
        adversarial: root mean square of a gradient step against the loss, on normalised motions; the loss is then the
        mean over the motions with and without it.
        """
        super().__init__()
        self.accelerator, self.towers, self.captions = accelerator, towers, captions
        self.temperature, self.cosine_weight, self.margin = temperature, cosine_weight, margin
        self.noise, self.adversarial = noise, adversarial

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"towers": self.towers}

    def view(self, batch: MotionBatch) -> Tensor:
        """What the motion tower reads of a batch."""
        # Extractors that learn from clean motions only can be exploited by jitter that is invisible to them: their
        # gradient is the feedback, so it must be right in the neighbourhood of real motions.
        return batch.motion + self.noise * batch.noise if self.noise else batch.motion

    def forward(self, batch: MotionBatch) -> Losses:
        rows = batch.caption
        if self.captions.flipped:
            rows = torch.cat([rows, batch.flipped.clamp(min=0)])
        tokens, motion = self.captions.tokens(rows, batch.tokens), self.view(batch)
        if self.adversarial:
            motion = motion.detach().requires_grad_()
        text, embedding = self.towers(*tokens, motion, batch.mask)
        loss = self._loss(text, embedding, batch)
        if self.adversarial:
            # The gradient of a judge that fits only clean motions points at jitter, and the feedback follows it.
            (against,) = torch.autograd.grad(loss, motion, retain_graph=True)
            worst = motion.detach() + step_along(against, batch.mask, self.adversarial)
            loss = (loss + self._loss(*self.towers(*tokens, worst, batch.mask), batch)) / 2
        # Each process has gradients for its own rows alone, and data parallelism averages over processes.
        return loss * self.accelerator.num_processes, {"loss": loss}

    def _loss(self, text: Tensor, motion: Tensor, batch: MotionBatch) -> Tensor:
        """Of this process's embeddings; `text` holds those of flipped captions behind the others."""
        accelerator, flipped = self.accelerator, None
        same = accelerator.gather(self.captions.same[batch.caption])
        if self.captions.flipped:
            wrong = text[len(motion) :] * (batch.flipped >= 0)[:, None]
            flipped = all_rows(accelerator, wrong)[:, None]
        text, motion = all_rows(accelerator, text[: len(motion)]), all_rows(accelerator, motion)
        if self.margin is None:
            loss = contrastive(text, motion, same, self.temperature, self.cosine_weight, flipped)
        else:
            loss = margin_contrastive(text, motion, same, self.margin)
        if flipped is not None:
            loss = loss + minimal_pair_loss(text, motion, flipped, self.temperature)
        return loss


def step_along(gradient: Tensor, mask: Tensor, size: float) -> Tensor:
    """A step on normalised motions along a gradient (B, T, D), of root mean square `size` over a clip's real frames."""
    gradient = gradient.float() * mask[..., None]
    squares = gradient.square().sum(dim=(1, 2)) / (mask.sum(dim=1) * gradient.shape[-1])
    return size * gradient / squares.sqrt().clamp(min=torch.finfo(gradient.dtype).tiny)[:, None, None]


def judge_objective(
    accelerator: Accelerator,
    judge: Judge,
    tokenizer: PreTrainedTokenizerBase,
    captions: Sequence[str],
    config: ExtractorConfig | EvaluatorConfig | JointEvaluatorConfig,
) -> ContrastiveObjective:
    """What a judge minimises.

    Extractors: the corrected Eq. 2, T2M's margin loss, or Eq. 2 with minimal pairs among the negatives. Evaluator:
    InfoNCE; with `config.flipped` also against captions with one word flipped.
    """
    if isinstance(config, ExtractorConfig):
        flips = config.objective == "minimal_pairs"
        margin = config.margin if config.objective == "margin" else None
        options = {"cosine_weight": 1.0, "margin": margin, "noise": config.noise, "adversarial": config.adversarial}
    else:
        flips, options = config.flipped, {}
    table = CaptionTable(tokenizer, captions, with_flips=flips, device=accelerator.device)
    return ContrastiveObjective(accelerator, judge, table, temperature=config.temperature, **options)


def fit_judge(
    accelerator: Accelerator,
    dataset: MotionDataset,
    build: Callable[[], Trained],
    tokenizer: PreTrainedTokenizerBase,
    config: ExtractorConfig | EvaluatorConfig | JointEvaluatorConfig,
    place: Place,
    trackers: Sequence[str] = (),
) -> Trained:
    """Train the judge that `build` makes; return it in eval mode, on the CPU."""
    torch.manual_seed(seeding.mix(config.seed))
    judge = build()
    objective = judge_objective(accelerator, judge, tokenizer, dataset.captions(), config)
    fit(accelerator, dataset, objective, contrastive_training(config, trackers), place)
    return judge


def contrastive_training(config: ContrastiveFit, trackers: Sequence[str] = ()) -> TrainingConfig:
    """The settings of a contrastive fit: a short rise, a drop after four fifths, clipping, no average."""
    return TrainingConfig(
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        weight_decay=0.01,
        warmup=WARMUP,
        drop_at=math.ceil(0.8 * config.steps),
        clip_norm=1.0,
        ema=None,
        workers=0,
        checkpoint_every=max(1, config.steps // CHECKPOINTS),
        log_every=10,
        trackers=tuple(trackers),
        seed=config.seed,
    )


def all_rows(accelerator: Accelerator, own: Tensor) -> Tensor:
    """The rows of all processes, (B, E) -> (B * processes, E); gradients flow into this process's rows."""
    if accelerator.num_processes == 1:
        return own
    rows = list(accelerator.gather(own.detach()).split(len(own)))
    rows[accelerator.process_index] = own
    return torch.cat(rows)
