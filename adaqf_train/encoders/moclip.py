"""A text encoder aligned with motions by contrast, on a tether to its base: the rival of AdaCLIP in Table 9.

The idea is that of MoCLIP (Maldonado et al. 2025), in code of our own: CLIP's pooled vector is drawn to its motion's
embedding by InfoNCE, and kept near the base's own vector by a distillation term. No motion is generated.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaclip.adapter import save_adapter
from adaqf_train import seeding
from adaqf_train.config import ExtractorConfig
from adaqf_train.config.families import MoClipConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.frozen_text import FrozenText
from adaqf_train.judges import store
from adaqf_train.judges.contrastive import all_rows
from adaqf_train.judges.extractors import MotionExtractor
from adaqf_train.training import loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import caption_ids, consistency, contrastive


class AlignedTowers(nn.Module):
    """The text encoder that is adapted, and the motion encoder it is aligned with."""

    def __init__(self, text: AdaCLIP, motion: MotionExtractor) -> None:
        super().__init__()
        self.text, self.motion = text, motion

    def forward(self, ids: Tensor, text_mask: Tensor, motion: Tensor, motion_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, P) each of token ids (B, L) and normalised features (B, T, D)."""
        return self.text(ids, text_mask).pooled, self.motion(motion, motion_mask)


def fit_moclip(
    accelerator: Accelerator,
    dataset: MotionDataset,
    base: str,
    motion: ExtractorConfig,
    config: MoClipConfig,
    place: Place,
) -> AdaCLIP:
    """The adapted encoder; `save_moclip` makes it a folder that `AdaCLIP.from_pretrained` reads.

    base: Hub id or folder of the CLIP text encoder; motion: sizes of the motion encoder, whose embedding takes the
    width of CLIP's. A fit that was interrupted goes on from its newest checkpoint.
    """
    torch.manual_seed(seeding.mix(config.seed))
    encoder = AdaCLIP.from_base(base, rank=config.rank, alpha=config.alpha)
    tether = FrozenText(encoder, dataset.captions(), "pooled")
    if config.tuning == "full":
        tune_fully(encoder)
    sizes = replace(motion, embedding=encoder.projection_size)
    towers = AlignedTowers(encoder, MotionExtractor(dataset.features, sizes))
    groups = [
        {"params": list(towers.motion.parameters()), "lr": config.learning_rate},
        {"params": [p for p in encoder.parameters() if p.requires_grad], "lr": config.encoder_learning_rate},
    ]
    wrapped, optimizer = accelerator.prepare(towers.train(), loop.adamw(groups, 0.0, accelerator))
    source = StepBatches(
        dataset, config.batch, config.seed, process=accelerator.process_index, processes=accelerator.num_processes
    )

    def losses(batch: MotionBatch) -> loop.Losses:
        ids, mask = encoder.tokenize(batch.captions)
        text, embedding = wrapped(ids, mask, batch.motion, batch.mask)
        held = consistency(text, tether.pooled(batch.captions).to(text.device)).mean()
        same = accelerator.gather(caption_ids(batch.captions).to(text.device))
        rows = all_rows(accelerator, text), all_rows(accelerator, embedding)
        aligned = contrastive(*rows, same, config.temperature, cosine_weight=0.0)
        # Each process has gradients for its own rows alone, and data parallelism averages over processes.
        loss = aligned * accelerator.num_processes + config.tether * held
        return loss, {"loss": aligned + config.tether * held, "contrastive": aligned, "tether": held}

    settings = loop.LoopSettings(
        name=place.log.stem,
        steps=config.steps,
        seed=config.seed,
        log=place.log,
        checkpoints=place.checkpoints,
        checkpoint_every=config.checkpoint_every,
        clip_norm=1.0,
        rate=lambda step: min(1.0, (step + 1) / 50) * (0.1 if step >= 0.8 * config.steps else 1.0),
    )
    loop.run(
        accelerator,
        TrainState({"towers": towers}, optimizer),
        settings,
        lambda start: source.from_step(start, config.steps),
        losses,
    )
    accelerator.free_memory()
    return encoder.cpu().eval().requires_grad_(False)


def tune_fully(encoder: AdaCLIP) -> None:
    """Lets every weight of the text tower learn, and none of the adapter, which stays the identity."""
    adapter = {id(p) for p in encoder.adapter_parameters()}
    for parameter in encoder.parameters():
        parameter.requires_grad_(id(parameter) not in adapter)


def save_moclip(folder: Path, encoder: AdaCLIP, config: MoClipConfig) -> None:
    """Writes the encoder as an adapter's folder; after full tuning with its base inside and an adapter that is idle."""
    if config.tuning == "lora":
        encoder.save_pretrained(folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        store.save_clip(base, encoder.merged(), encoder.tokenizer)
        save_adapter(encoder.text_model, encoder.tokenizer, str(base), folder, details=encoder.details, with_base=True)
