"""Settings of the contrastive rival of AdaCLIP, at published and at pocket size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaqf_train.config.networks import ContrastiveFit
from adaqf_train.config.schema import Count, Natural, NotNegative, Positive


@dataclass(frozen=True)
class MoClipConfig(ContrastiveFit, name="moclip"):
    """A contrastive adaptation of CLIP with a tether to its base (the idea of MoCLIP, Maldonado et al. 2025)."""

    tuning: Literal["lora", "full"] = "lora"
    """What is adapted; full: every weight of the text tower."""
    rank: Count = 16
    """Rank of the adapter, as AdaCLIP's."""
    alpha: Count = 16
    """Scale of the adapter, as AdaCLIP's."""
    temperature: Positive = 0.1
    """Temperature of InfoNCE, as the extractors'."""
    tether: NotNegative = 1.0
    """Weight of 1 - cosine to the base's embedding."""
    encoder_learning_rate: Positive = 1e-4
    """Learning rate of the text encoder; learning_rate is that of the motion encoder."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    seed: Natural = 3


POCKET = MoClipConfig(learning_rate=1e-3, encoder_learning_rate=1e-3, steps=400, checkpoint_every=100)
