"""What a fit minimises: an objective holds its networks and computes a batch's loss; it lies with what it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from adaqf_train.config import DiffusionConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.data.captions import CaptionTable

Losses = tuple[Tensor, dict[str, Tensor]]  # what this process minimises, and the scalars to log


class Objective(nn.Module, ABC):
    """A loss over networks: `loss, parts = objective(batch)`.

    Every network that training changes is a submodule, so that data parallelism and devices treat them all alike.

    Attributes:
        captions: Table that batches refer to; None: the objective reads none, or reads captions as strings.
        diffusion: Range of the timesteps and the probability of dropped text; None: the batches' defaults.
        compiles: Modules to compile with `training.compile`, and where steps are captured; empty: it is refused.
        capturable: Whether the loss reads nothing from the host, so that a CUDA graph can hold it.
        accumulates: Whether a batch may be divided (`training.accumulate`); else that setting is refused.
        caches_text: Whether `training.cache_text` makes a difference; else that setting is refused.
    """

    captions: CaptionTable | None = None
    diffusion: DiffusionConfig | None = None
    compiles: tuple[nn.Module, ...] = ()
    caches_text: bool = False
    capturable: bool = False
    accumulates: bool = True

    @property
    @abstractmethod
    def learns(self) -> Mapping[str, nn.Module]:
        """The networks that are trained, by the name they have in checkpoints.

        The one called "encoder", if any, is trained at `training.adapter_learning_rate`.
        """

    @abstractmethod
    def forward(self, batch: MotionBatch) -> Losses:
        """The batch's mean loss, a scalar, and the parts that are logged."""
