"""Settings of the encoder other than weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

from adaclip.towers import CLIP, LORA_MODULES, MODULE_NAMES

DEFAULT_BASE = "openai/clip-vit-base-patch32"


class AdaCLIPError(Exception):
    """An adapter or its base cannot be loaded or saved. The message says which file, why, and what to do."""


@dataclass(frozen=True)
class LoRASettings:
    """Shape of the adapter. At ViT-B/32 the defaults give 1,572,864 trainable parameters.

    Raises:
        ValueError: A setting is out of its range.
    """

    rank: int = 16  # section 4.1: 16 for all modules
    alpha: int = 16  # scale alpha / rank = 1; not given in the paper
    dropout: float = 0.0  # not given in the paper
    modules: tuple[str, ...] = LORA_MODULES

    def __post_init__(self) -> None:
        whole = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if not whole or self.rank < 1 or not 0 < self.alpha < math.inf:  # NaN compares false
            raise ValueError(f"LoRA needs rank >= 1 and alpha > 0, got rank {self.rank!r} and alpha {self.alpha!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"LoRA dropout must lie in [0, 1), got {self.dropout}.")
        unknown = set(self.modules) - set(MODULE_NAMES)
        if unknown or not self.modules:
            known = f"{', '.join(CLIP.modules)}, or the names of another family (adaclip.towers)"
            raise ValueError(f"Unknown LoRA modules {sorted(unknown)}: choose from {known}.")

    @property
    def target_modules(self) -> str:
        """Pattern of module names in CLIP for peft, which excludes a vision tower; see `Tower.target_modules`."""
        return CLIP.target_modules(self.modules)
