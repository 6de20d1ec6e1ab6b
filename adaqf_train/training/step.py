"""One optimisation step: forward, backward, clipping, AdamW, moving average."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaqf_train.config import TrainingConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.objective import Losses


@dataclass(frozen=True)
class StepResult:
    """What a step leaves on the device."""

    loss: Tensor  # scalar, of this process
    parts: dict[str, Tensor]  # scalars to log
    norm: Tensor | None  # of the gradients before clipping; None where neither clipping nor the log needs it


class Step:
    """Takes a batch and changes the state's parameters; reads nothing back from the device."""

    def __init__(self, accelerator: Accelerator, objective: nn.Module, state: TrainState, training: TrainingConfig):
        """objective: as accelerate wrapped it."""
        self.accelerator, self.objective, self.state, self.training = accelerator, objective, state, training
        self.parameters = state.parameters()
        self._rates = [group["lr"] for group in state.optimizer.param_groups]

    def __call__(self, batch: MotionBatch, *, logged: bool) -> StepResult:
        """Optimise on a batch; counts the step in the state."""
        for group, rate in zip(self.state.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.rate(self.state.step)
        loss, parts = self.backward(batch)
        norm = None
        if logged or self.training.clip_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.training.clip_norm or math.inf)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.state.average is not None:
            self._update_average()
        return StepResult(loss, parts, norm)

    def rate(self, step: int) -> float:
        """The factor on the learning rates: a linear rise, the paper's one drop, and a linear fall, if any."""
        training = self.training
        rise = min(1.0, (step + 1) / training.warmup) if training.warmup else 1.0
        cool = training.cool_down * training.steps
        fall = min(1.0, (training.steps - step) / cool) if cool else 1.0
        return rise * fall * (training.drop_by if training.drop_at is not None and step >= training.drop_at else 1.0)

    def backward(self, batch: MotionBatch) -> Losses:
        """Compute gradients of the batch's mean loss, in `training.accumulate` parts; return the means of the parts."""
        accelerator, found = self.accelerator, []
        pieces = batch.parts(self.training.accumulate)
        for number, piece in enumerate(pieces, start=1):
            # Gradients need no exchange between processes before the last part.
            with accelerator.no_sync(self.objective) if number < len(pieces) else nullcontext():
                with accelerator.autocast():
                    loss, parts = self.objective(piece.to(accelerator.device))
                accelerator.backward(loss / len(pieces))
            found.append((loss.detach(), {name: value.detach() for name, value in parts.items()}))
        if len(found) == 1:
            return found[0]
        mean = {name: torch.stack([parts[name] for _, parts in found]).mean() for name in found[0][1]}
        return torch.stack([loss for loss, _ in found]).mean(), mean

    def decay(self) -> float:
        """How much of the average remains at the step that was counted last; 1 without an average."""
        if self.training.ema is None:
            return 1.0
        # The usual warm-up, so that a short run's average is not its random start.
        return min(self.training.ema, (1 + self.state.step) / (10 + self.state.step))

    @torch.no_grad()
    def _update_average(self) -> None:
        torch._foreach_lerp_(self.state.average, [p.detach() for p in self.parameters], 1 - self.decay())
