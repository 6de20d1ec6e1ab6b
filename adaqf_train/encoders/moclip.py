"""A text encoder that is aligned with motions by contrast, on a tether to its base: the rival of AdaCLIP in Table 9.

The idea is MoCLIP's (Maldonado et al. 2025), the code is our own: InfoNCE draws CLIP's pooled vector to its motion's
embedding, and a distillation term keeps it near the base's vector. No motion is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adaclip import AdaCLIP
from adaclip.files import atomic_folder
from adaqf_train import seeding
from adaqf_train.config import AlignmentConfig, ExtractorConfig, TrainingConfig
from adaqf_train.config.networks import ContrastiveFit
from adaqf_train.config.schema import Count, Natural, NotNegative, Positive
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.encoders.captions import FrozenCaptions
from adaqf_train.encoders.tuning import tune
from adaqf_train.judges.contrastive import all_rows, contrastive_training
from adaqf_train.judges.extractors import MotionExtractor
from adaqf_train.training.fit import fit
from adaqf_train.training.loop import Place
from adaqf_train.training.losses import consistency, contrastive
from adaqf_train.training.objective import Losses, Objective


@dataclass(frozen=True)
class MoClipConfig(ContrastiveFit, name="moclip"):
    """A contrastive adaptation of CLIP with a tether to its base (the idea of MoCLIP, Maldonado et al. 2025)."""

    tuning: Literal["lora", "full"] = "lora"  # What is adapted; full: every weight of the text tower.
    rank: Count = 16  # Rank of the adapter, as AdaCLIP's.
    alpha: Count = 16  # Scale of the adapter, as AdaCLIP's.
    temperature: Positive = 0.1  # Temperature of InfoNCE, as the extractors'.
    tether: NotNegative = 1.0  # Weight of 1 - cosine to the base's embedding.
    encoder_learning_rate: Positive = 1e-4
    """Learning rate of the text encoder; learning_rate is that of the motion encoder."""
    checkpoint_every: Count = 1000  # Steps between checkpoints.
    seed: Natural = 3


ADAPTER, ALIGNER = "adapter", "motion.safetensors"  # of an aligned start

POCKET = MoClipConfig(learning_rate=1e-3, encoder_learning_rate=1e-3, steps=400, checkpoint_every=100)


class MoClipObjective(Objective):
    """InfoNCE between the adapted encoder and a motion encoder, and 1 - cosine to the base's vectors."""

    def __init__(
        self,
        accelerator: Accelerator,
        encoder: AdaCLIP,
        motion: MotionExtractor,
        captions: list[str],
        config: MoClipConfig | AlignmentConfig,
    ) -> None:
        super().__init__()
        self.accelerator, self.encoder, self.motion, self.config = accelerator, encoder, motion, config
        self.captions = CaptionTable(encoder.tokenizer, captions, device=accelerator.device)
        with encoder.disable_adapter():
            self.base_vectors = FrozenCaptions(encoder, self.captions.texts, "pooled").pooled(self.captions.texts)

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"motion": self.motion, "encoder": self.encoder}

    def forward(self, batch: MotionBatch) -> Losses:
        return self.losses(batch, self.encoder(*self.captions.tokens(batch.caption, batch.tokens), trim=False).pooled)

    def losses(self, batch: MotionBatch, text: Tensor) -> Losses:
        """The losses of a batch, given the encoder's pooled vectors (B, P) of its captions."""
        accelerator, config = self.accelerator, self.config
        rows = all_rows(accelerator, text), all_rows(accelerator, self.motion(batch.motion, batch.mask))
        same = accelerator.gather(self.captions.same[batch.caption])
        aligned = contrastive(*rows, same, config.temperature, cosine_weight=0.0)
        held = consistency(text, self.base_vectors[batch.caption]).mean()
        # Each process has gradients for its own rows alone, and data parallelism averages over processes.
        loss = aligned * accelerator.num_processes + config.tether * held
        return loss, {"loss": aligned + config.tether * held, "contrastive": aligned, "tether": held}


def schedule(config: MoClipConfig | AlignmentConfig, rival: TrainingConfig) -> dict[str, float | None]:
    """Warm-up, clipping and decay of a rival's training, at the same shares of the steps.

    With means that only one of the two has, a comparison would measure the means.
    """
    share = config.steps / rival.steps
    return {
        "warmup": round(share * rival.warmup),
        "drop_at": None if rival.drop_at is None else max(1, round(share * rival.drop_at)),
        "drop_by": rival.drop_by,
        "cool_down": rival.cool_down,
        "clip_norm": rival.clip_norm,
        "weight_decay": rival.weight_decay,
    }


def fit_moclip(
    accelerator: Accelerator,
    dataset: MotionDataset,
    base: str,
    motion: ExtractorConfig,
    config: MoClipConfig,
    place: Place,
    rival: TrainingConfig,
) -> AdaCLIP:
    """Adapt an encoder by contrast, beside a motion encoder of the sizes `motion`; `save_tuned` writes it.

    rival: the training of the encoder that this one is compared with, whose schedule it gets (`schedule`).
    """
    torch.manual_seed(seeding.mix(config.seed))
    encoder = AdaCLIP.from_base(base, rank=config.rank, alpha=config.alpha).to(accelerator.device)
    tune(encoder, config.tuning)
    align(accelerator, dataset, encoder, motion, config, place, rival)
    return encoder.requires_grad_(False)


def align(
    accelerator: Accelerator,
    dataset: MotionDataset,
    encoder: AdaCLIP,
    motion: ExtractorConfig,
    config: MoClipConfig | AlignmentConfig,
    place: Place,
    rival: TrainingConfig,
) -> MotionExtractor:
    """Train, in place, what of an encoder requires gradients; return the motion encoder that was trained beside it."""
    tower = motion_encoder(dataset.features, encoder, motion)
    objective = MoClipObjective(accelerator, encoder, tower, dataset.captions(), config)
    training = replace(
        contrastive_training(config, rival.trackers),
        **schedule(config, rival),
        adapter_learning_rate=config.encoder_learning_rate,
        checkpoint_every=config.checkpoint_every,
    )
    fit(accelerator, dataset, objective, training, place)
    return tower


def motion_encoder(features: int, encoder: AdaCLIP, motion: ExtractorConfig) -> MotionExtractor:
    """An untrained motion encoder into the space of the encoder's pooled vectors."""
    return MotionExtractor(features, replace(motion, embedding=encoder.projection_size))


def save_aligned(folder: Path, encoder: AdaCLIP, tower: MotionExtractor) -> None:
    """Write an aligned start: the adapter, and in a folder of its own the motion encoder that it was trained beside."""
    with atomic_folder(folder) as staging:
        encoder.save_pretrained(staging / ADAPTER)
        save_file(tower.state_dict(), staging / ALIGNER)


def load_aligner(folder: Path, tower: MotionExtractor) -> MotionExtractor:
    """Fill an untrained motion encoder with the weights of an aligned start."""
    tower.load_state_dict(load_file(folder / ALIGNER))
    return tower
