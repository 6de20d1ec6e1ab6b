"""Settings of the contrastive rival of AdaCLIP, at published and at pocket size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from adaqf_train.config.schema import Count, Group, Natural, NotNegative, Positive, at_least


@dataclass(frozen=True)
class MoClipConfig(Group, name="moclip"):
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
    learning_rate: Positive = 1e-4
    """Learning rate of the motion encoder."""
    encoder_learning_rate: Positive = 1e-4
    """Learning rate of the text encoder."""
    steps: Count = 20_000
    """Optimiser steps."""
    batch: Annotated[int, at_least(2)] = 64
    """Pairs in a batch."""
    checkpoint_every: Count = 1000
    """Steps between checkpoints."""
    seed: Natural = 3
    """Seed of the fit."""


POCKET = MoClipConfig(learning_rate=1e-3, encoder_learning_rate=1e-3, steps=400, checkpoint_every=100)
