"""The noise of samplers: drawn on the device, for each motion by itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adaqf_train import philox

STREAM = 100  # of the counter, apart from the draws of training


@dataclass(frozen=True)
class Noise:
    """Noise of a batch, drawn on the device from a counter: an item's does not depend on the others."""

    items: Tensor  # (B,) long, a number for each item

    def normal(self, step: int, *shape: int) -> Tensor:
        """Standard normal noise (B, *shape) of a sampler's step."""
        return philox.normal(0, self.items, shape, stream=STREAM, step=step)

    def gumbel(self, step: int, *shape: int) -> Tensor:
        """Gumbel noise (B, *shape): the argmax of logits with it is distributed as their softmax."""
        return -(-philox.uniform(0, self.items, shape, stream=STREAM, step=step).log()).log()
