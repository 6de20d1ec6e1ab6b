"""Settings of the contrastive rival of AdaCLIP, at published and at pocket size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaqf_train.config.checks import require, require_positive


@dataclass(frozen=True)
class MoClipConfig:
    """A contrastive adaptation of CLIP with a tether to its base (the idea of MoCLIP, Maldonado et al. 2025)."""

    tuning: Literal["lora", "full"] = "lora"  # full: every weight of the text tower
    rank: int = 16  # as AdaCLIP's
    alpha: int = 16
    temperature: float = 0.1  # as the extractors'
    tether: float = 1.0  # weight of 1 - cosine to the base's embedding
    learning_rate: float = 1e-4
    encoder_learning_rate: float = 1e-4
    steps: int = 20_000
    batch: int = 64
    checkpoint_every: int = 1000
    seed: int = 3

    def __post_init__(self) -> None:
        positive = ("rank", "alpha", "temperature", "learning_rate", "encoder_learning_rate", "steps")
        require_positive("moclip", self, *positive)
        require(self.batch >= 2, f"moclip.batch must be at least 2, got {self.batch}.")
        require(self.tether >= 0, f"moclip.tether must not be negative, got {self.tether}.")
        require(self.seed >= 0, f"moclip.seed must not be negative, got {self.seed}.")


POCKET = MoClipConfig(learning_rate=1e-3, encoder_learning_rate=1e-3, steps=400, checkpoint_every=100)
