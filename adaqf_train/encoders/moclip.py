"""A text encoder that is aligned with motions by contrast, on a tether to its base: the rival of AdaCLIP in Table 9.

The idea is MoCLIP's (Maldonado et al. 2025), the code is our own: InfoNCE draws CLIP's pooled vector to its motion's
embedding, and a distillation term keeps it near the base's vector. No motion is generated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from adaclip import AdaCLIP
from adaqf_train import seeding
from adaqf_train.config import ExtractorConfig, TrainingConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.encoders.moclip_config import MoClipConfig
from adaqf_train.encoders.tuning import save_tuned, tune
from adaqf_train.judges.contrastive import WARMUP, all_rows
from adaqf_train.judges.extractors import MotionExtractor
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import consistency, contrastive
from adaqf_train.training.objective import Losses, Objective


class MoClipObjective(Objective):
    """InfoNCE between the adapted encoder and a motion encoder, and 1 - cosine to the base's vectors."""

    def __init__(
        self,
        accelerator: Accelerator,
        encoder: AdaCLIP,
        motion: MotionExtractor,
        captions: list[str],
        config: MoClipConfig,
    ) -> None:
        super().__init__()
        self.accelerator, self.encoder, self.motion, self.config = accelerator, encoder, motion, config
        self.captions = CaptionTable(encoder.tokenizer, captions, device=accelerator.device)
        self.base_vectors = FrozenCaptions(encoder, self.captions.texts, "pooled").pooled(self.captions.texts)

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"motion": self.motion, "encoder": self.encoder}

    def forward(self, batch: MotionBatch) -> Losses:
        accelerator, config = self.accelerator, self.config
        text = self.encoder(*self.captions.tokens(batch.caption, batch.tokens), trim=False).pooled
        rows = all_rows(accelerator, text), all_rows(accelerator, self.motion(batch.motion, batch.mask))
        same = accelerator.gather(self.captions.same[batch.caption])
        aligned = contrastive(*rows, same, config.temperature, cosine_weight=0.0)
        held = consistency(text, self.base_vectors[batch.caption]).mean()
        # Each process has gradients for its own rows alone, and data parallelism averages over processes.
        loss = aligned * accelerator.num_processes + config.tether * held
        return loss, {"loss": aligned + config.tether * held, "contrastive": aligned, "tether": held}


def fit_moclip(
    accelerator: Accelerator,
    dataset: MotionDataset,
    base: str,
    motion: ExtractorConfig,
    config: MoClipConfig,
    place: Place,
    trackers: Sequence[str] = (),
) -> AdaCLIP:
    """Adapt an encoder by contrast; `save_moclip` makes it a folder that `AdaCLIP.from_pretrained` reads.

    Args:
        accelerator: Device, precision and processes.
        dataset: Split to learn from.
        base: Hub id or folder of the CLIP text encoder.
        motion: Sizes of the motion encoder, whose embedding takes the width of CLIP's.
        config: Loss and steps.
        place: Where logs and checkpoints go.
        trackers: Beside the JSON lines.
    """
    torch.manual_seed(seeding.mix(config.seed))
    encoder = AdaCLIP.from_base(base, rank=config.rank, alpha=config.alpha).to(accelerator.device)
    tune(encoder, config.tuning)
    tower = MotionExtractor(dataset.features, replace(motion, embedding=encoder.projection_size))
    objective = MoClipObjective(accelerator, encoder, tower, dataset.captions(), config)
    training = TrainingConfig(
        steps=config.steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        adapter_learning_rate=config.encoder_learning_rate,
        warmup=WARMUP,
        drop_at=math.ceil(0.8 * config.steps),
        clip_norm=1.0,
        ema=None,
        workers=0,
        checkpoint_every=config.checkpoint_every,
        log_every=10,
        trackers=tuple(trackers),
        seed=config.seed,
    )
    fit(accelerator, dataset, objective, training, place)
    return encoder.requires_grad_(False)


def save_moclip(folder: Path, encoder: AdaCLIP, config: MoClipConfig) -> None:
    """Write the encoder as an adapter folder."""
    save_tuned(folder, encoder, config.tuning)
