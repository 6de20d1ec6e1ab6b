"""Finding the batch at which a run diverged, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from adaclip.files import write_json
from adaqf_train.data.batches import MotionBatch
from adaqf_train.errors import DivergenceError


@dataclass(frozen=True)
class _Step:
    number: int
    loss: Tensor  # of this process, where it was computed
    keys: Sequence[str]
    captions: Sequence[str]


class LossWindow:
    """The losses since the last look, on the device, and on the host the clips they are of."""

    def __init__(self, limit: float, file: Path) -> None:
        """limit: the largest loss that is no divergence. file: where the batch is written to."""
        self.limit, self.file = limit, file
        self._steps: list[_Step] = []
        self._newest: _Step | None = None

    def add(self, number: int, loss: Tensor, batch: MotionBatch) -> None:
        """Notes a step, counted from 1, without reading its loss."""
        self._steps.append(_Step(number, loss.detach().float(), batch.keys, batch.captions))

    def check(self, accelerator: Accelerator, weights: Sequence[Tensor] = ()) -> None:
        """Reads what was noted, on all processes together; DivergenceError for the first step that diverged.

        weights: must be finite as well; a step's gradients can destroy them though its loss was still a number.
        """
        if self._steps:
            losses = accelerator.gather(torch.stack([step.loss for step in self._steps])[None])  # (processes, steps)
            diverged = ~(losses <= self.limit).all(dim=0)  # NaN compares false
            if diverged.any():
                index = int(diverged.int().argmax())
                self._raise(accelerator, self._steps[index], f"loss is {_shown(losses[:, index])}")
            self._newest = self._steps[-1]
            self._steps.clear()
        if weights and not torch.stack(torch._foreach_norm(list(weights))).isfinite().all():
            self._raise(accelerator, self._newest, "gradients have left weights that are not finite")

    def _raise(self, accelerator: Accelerator, step: _Step, what: str) -> None:
        keys, captions = gather_object(list(step.keys)), gather_object(list(step.captions))
        if accelerator.is_main_process:
            clips = [{"clip": key, "caption": caption} for key, caption in zip(keys, captions, strict=True)]
            write_json(self.file, {"step": step.number, "reason": what, "batch": clips})
        raise DivergenceError(
            f"The fit diverged: step {step.number}'s {what}. Its batch was {', '.join(keys[:3])} … (all {len(keys)} "
            f"clips are in {self.file}). Look at them (adaqf doctor), lower the learning rate, or clip gradients."
        )


def _shown(losses: Tensor) -> str:
    return ", ".join(f"{loss:g}" for loss in losses.tolist())
