"""Fits of two towers to each other: the pocket CLIP, the extractors (section 3.2) and the evaluator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase

from adaclip.text import tokenize
from adaqf_train import seeding
from adaqf_train.config import EvaluatorConfig, ExtractorConfig, PocketClipConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.wording import flips
from adaqf_train.encoders import pocket_clip
from adaqf_train.judges.extractors import Extractors
from adaqf_train.judges.matcher import Matcher
from adaqf_train.training import loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import caption_ids, contrastive, margin_contrastive, told_from_flipped

CHECKPOINTS = 10  # over a fit: at the paper's sizes one every minute
# Captions with a flipped word beside each caption, where a fit is to see such. Three take half as long again and
# teach no more: another is drawn every time the caption comes.
FLIPS = 1


def fit_pocket_clip(
    accelerator: Accelerator,
    dataset: MotionDataset,
    config: PocketClipConfig,
    log: Path,
    *,
    trackers: Sequence[str] = (),
) -> tuple[CLIPTextModelWithProjection, PreTrainedTokenizerBase]:
    """A still-pose CLIP of the training split: its text tower and tokenizer. Short: a killed fit starts over."""
    tokenizer = pocket_clip.train_tokenizer(dataset.captions(), config.vocabulary)
    torch.manual_seed(seeding.mix(config.seed))
    text_model = pocket_clip.build(tokenizer, config)
    _fit_still_poses(accelerator, text_model, dataset, tokenizer, config, Place(log, None, trackers))
    return text_model.eval(), tokenizer


def fit_pose_probe(
    accelerator: Accelerator,
    dataset: MotionDataset,
    text_model: CLIPTextModelWithProjection,
    tokenizer: PreTrainedTokenizerBase,
    config: PocketClipConfig,
    log: Path,
) -> pocket_clip.StillPoseClip:
    """A pose tower fitted to a text tower that stays as it is: what the text tower's vectors say of still poses.

    config: of the pose tower and its fit.
    """
    torch.manual_seed(seeding.mix(config.seed))
    config = replace(config, projection=text_model.config.projection_dim)
    place = Place(log, None, ())
    learns = [parameter.requires_grad for parameter in text_model.parameters()]
    towers = _fit_still_poses(accelerator, text_model.requires_grad_(False), dataset, tokenizer, config, place)
    for parameter, value in zip(text_model.parameters(), learns, strict=True):
        parameter.requires_grad_(value)
    return towers.cpu().eval()


def _fit_still_poses(
    accelerator: Accelerator,
    text_model: CLIPTextModelWithProjection,
    dataset: MotionDataset,
    tokenizer: PreTrainedTokenizerBase,
    config: PocketClipConfig,
    place: Place,
) -> pocket_clip.StillPoseClip:
    still = pocket_clip.pose_slice(dataset.features)
    towers = pocket_clip.StillPoseClip(text_model, still.stop - still.start, config)

    def one_pose(batch: MotionBatch) -> Tensor:
        # A frame per clip, drawn from the sample's own noise so that it is the same on any number of processes.
        share = torch.special.ndtr(batch.noise[:, 0, 0])
        frame = (share * batch.lengths).long().clamp(max=batch.motion.shape[1] - 1)
        return batch.motion[torch.arange(len(frame), device=frame.device), frame][:, still]

    _fit(accelerator, towers, dataset, tokenizer, config, place, temperature=0.07, cosine_weight=0.0, view=one_pose)
    return towers


def fit_extractors(
    accelerator: Accelerator,
    dataset: MotionDataset,
    tokenizer: PreTrainedTokenizerBase,
    words: Tensor,
    config: ExtractorConfig,
    log: Path,
    *,
    checkpoints: Path | None = None,
    trackers: Sequence[str] = (),
) -> Extractors:
    """The extractors, with the corrected Eq. 2, T2M's margin loss, or Eq. 2 with minimal pairs among the negatives.

    words: (vocabulary, width) token embeddings of the base CLIP. checkpoints: where to leave some, for a fit that is
    interrupted to go on from.
    """
    torch.manual_seed(seeding.mix(config.seed))
    extractors = Extractors(dataset.features, *words.shape, config)
    extractors.text.set_words(words)
    _fit(
        accelerator,
        extractors,
        dataset,
        tokenizer,
        config,
        Place(log, checkpoints, trackers),
        **objective_of(config),
    )
    return extractors.eval()


def fit_evaluator(
    accelerator: Accelerator,
    dataset: MotionDataset,
    tokenizer: PreTrainedTokenizerBase,
    config: EvaluatorConfig,
    log: Path,
    *,
    checkpoints: Path | None = None,
    trackers: Sequence[str] = (),
) -> Matcher:
    """The independent evaluator, with InfoNCE; if asked for, also against its captions with a word flipped.

    checkpoints: where to leave some, for a fit that is interrupted to go on from.
    """
    torch.manual_seed(seeding.mix(config.seed))
    matcher = Matcher(dataset.features, len(tokenizer), config)
    _fit(
        accelerator,
        matcher,
        dataset,
        tokenizer,
        config,
        Place(log, checkpoints, trackers),
        **objective_of(config),
    )
    return matcher.eval()


def objective_of(config: ExtractorConfig | EvaluatorConfig) -> dict[str, object]:
    """What `ContrastiveObjective` takes by name for the extractors' or the evaluator's fit."""
    if isinstance(config, EvaluatorConfig):
        wrong = _some_flips if config.flipped else None
        return {"temperature": config.temperature, "cosine_weight": 0.0, "wrong": wrong}

    def disturbed(batch: MotionBatch) -> Tensor:
        # An extractor that has only seen clean motions can be pleased by jitter nobody sees: its gradient is the
        # feedback, so it must be right in the neighbourhood of real motions, not on them alone.
        return batch.motion + config.noise * batch.noise

    return {
        "temperature": config.temperature,
        "cosine_weight": 1.0,
        "margin": config.margin if config.objective == "margin" else None,
        "view": disturbed,
        "wrong": _some_flips if config.objective == "minimal_pairs" else None,
    }


def _some_flips(batch: MotionBatch) -> list[list[str]]:
    """Up to FLIPS captions with a dynamic word flipped for each caption, drawn among those it has."""
    drawn = torch.special.ndtr(batch.noise[:, 0, :FLIPS]).tolist()  # the sample's own draws, as for a still pose
    found = [flips(caption) for caption in batch.captions]
    return [_drawn(some, shares) for some, shares in zip(found, drawn, strict=True)]


def _drawn(items: list[str], shares: list[float]) -> list[str]:
    """One of what is left of the items for each share in [0, 1]."""
    items = list(items)
    return [items.pop(min(int(share * len(items)), len(items) - 1)) for share in shares[: len(items)]]


class ContrastiveObjective:
    """The loss of two towers on a batch: towers(ids, text mask, view of the motion, motion mask) -> embeddings."""

    def __init__(
        self,
        accelerator: Accelerator,
        towers: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float,
        cosine_weight: float,
        margin: float | None = None,
        view: Callable[[MotionBatch], Tensor] = lambda batch: batch.motion,
        wrong: Callable[[MotionBatch], list[list[str]]] | None = None,
    ) -> None:
        """towers: as accelerate wrapped them. margin: of Euclidean distances, in the place of cosines at a temperature.
        wrong: up to FLIPS texts for each motion of a batch that are not its own, to be negatives and told from its own.
        """
        self.accelerator, self.towers, self.tokenizer = accelerator, towers, tokenizer
        self.temperature, self.cosine_weight, self.margin = temperature, cosine_weight, margin
        self.view, self.wrong = view, wrong

    def __call__(self, batch: MotionBatch) -> loop.Losses:
        """The loss over the rows of all processes."""
        accelerator, texts = self.accelerator, list(batch.captions)
        if self.wrong:
            others = [found + [""] * (FLIPS - len(found)) for found in self.wrong(batch)]
            texts += [text for found in others for text in found]
        ids, mask = (part.to(accelerator.device) for part in tokenize(self.tokenizer, texts))
        text, motion = self.towers(ids, mask, self.view(batch), batch.mask)
        same = accelerator.gather(caption_ids(batch.captions).to(accelerator.device))
        flipped = None
        if self.wrong:
            there = torch.tensor([[bool(other) for other in found] for found in others], device=accelerator.device)
            flipped = text[len(motion) :].unflatten(0, there.shape) * there[..., None]
            flipped = all_rows(accelerator, flipped)
        text, motion = all_rows(accelerator, text[: len(motion)]), all_rows(accelerator, motion)
        if self.margin is None:
            loss = contrastive(text, motion, same, self.temperature, self.cosine_weight, flipped)
        else:
            loss = margin_contrastive(text, motion, same, self.margin)
        if self.wrong:
            loss = loss + told_from_flipped(text, motion, flipped, self.temperature)
        # Each process has gradients for its own rows alone, and data parallelism averages over processes.
        return loss * accelerator.num_processes, {"loss": loss}


def _fit(
    accelerator: Accelerator,
    towers: nn.Module,
    dataset: MotionDataset,
    tokenizer: PreTrainedTokenizerBase,
    config: PocketClipConfig | ExtractorConfig | EvaluatorConfig,
    place: Place,
    **objective,
) -> None:
    """Optimises the towers in place. objective: what `ContrastiveObjective` takes by name."""
    source = StepBatches(
        dataset,
        config.batch,
        config.seed,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    trainable = [p for p in towers.parameters() if p.requires_grad]
    optimizer = loop.adamw(trainable, 0.01, accelerator, rate=config.learning_rate)
    wrapped, optimizer = accelerator.prepare(towers, optimizer)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / 50) * (0.1 if step >= 0.8 * config.steps else 1.0)

    settings = loop.LoopSettings(
        name=place.log.stem,
        steps=config.steps,
        seed=config.seed,
        log=place.log,
        trackers=place.trackers,
        checkpoints=place.checkpoints,
        checkpoint_every=max(1, config.steps // CHECKPOINTS),
        rate=rate,
        clip_norm=1.0,
    )
    towers.train()
    loop.run(
        accelerator,
        TrainState({"towers": towers}, optimizer),
        settings,
        lambda s: source.from_step(s, config.steps),
        ContrastiveObjective(accelerator, wrapped, tokenizer, **objective),
    )
    accelerator.free_memory()


def all_rows(accelerator: Accelerator, own: Tensor) -> Tensor:
    """The rows of all processes, (B, E) -> (B * processes, E); gradients flow into this process's rows."""
    if accelerator.num_processes == 1:
        return own
    rows = list(accelerator.gather(own.detach()).split(len(own)))
    rows[accelerator.process_index] = own
    return torch.cat(rows)
