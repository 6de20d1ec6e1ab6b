"""A fit of a small network, to see what the loop does with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from adaqf_train.config import TrainingConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.training import loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.loop import Place
from adaqf_train.training.objective import Losses, Objective
from adaqf_train.training.validation import Validation

STEPS = 9


class FirstFeature(Objective):
    """A small network with dropout that learns to predict a motion's first feature."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Linear(263, 4), nn.Dropout(0.3), nn.Linear(4, 1))

    @property
    def learns(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    def forward(self, batch: MotionBatch) -> Losses:
        loss = (self.network(batch.motion).squeeze(-1) - batch.motion[..., 0]).square().mean()
        return loss, {"loss": loss}


class Fit:
    """One fit in a folder; `settings` change its training settings."""

    def __init__(self, folder: Path, dataset, steps: int = STEPS, **settings) -> None:
        self.objective = FirstFeature()
        self.network = self.objective.network
        self.state = TrainState(self.objective.learns, torch.optim.AdamW(self.network.parameters(), lr=0.01))
        self.source, self.steps = StepBatches(dataset, 4, 0), steps
        self.place = Place(folder / "fit.jsonl", folder / "checkpoints")
        chosen = {"checkpoint_every": 2, "ema": 0.9, "drop_at": 6, "max_loss": 1e30, "log_every": 1, "trackers": ()}
        self.training = TrainingConfig(steps=steps, batch=4, **chosen | settings)
        if self.training.ema is not None:
            self.state.average = [parameter.detach().clone() for parameter in self.state.parameters()]

    def losses(self, batch: MotionBatch) -> Losses:
        """The objective; tests replace it."""
        return self.objective(batch)

    def run(
        self,
        stop_after: int | None = None,
        validation: Validation | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        """stop_after: raise InterruptedError when the batch after that many steps is requested."""

        def batches(start: int) -> Iterator[MotionBatch]:
            for step in range(start, self.steps):
                if step == stop_after:
                    raise InterruptedError
                yield self.source[step]

        class Changed(nn.Module):
            forward = staticmethod(self.losses)

        loop.run(
            accelerator or Accelerator(cpu=True), self.state, self.training, self.place, batches, Changed(), validation
        )


def equal(a: Fit, b: Fit) -> bool:
    left, right = a.state.tensors(), b.state.tensors()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
