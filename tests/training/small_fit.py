"""A fit of a small network, to see what the loop does with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator

from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.training import loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.loop import LoopSettings
from adaqf_train.training.validation import Validation

STEPS = 9


class Fit:
    """A small network with dropout that learns to predict a motion's first feature."""

    def __init__(self, folder: Path, dataset, steps: int = STEPS, **settings) -> None:
        torch.manual_seed(1)
        self.network = torch.nn.Sequential(torch.nn.Linear(263, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.01)
        self.state = TrainState({"network": self.network}, optimizer)
        self.source, self.steps = StepBatches(dataset, 4, 0), steps
        self.settings = LoopSettings(
            name="fit",
            steps=steps,
            seed=0,
            log=folder / "fit.jsonl",
            checkpoints=folder / "checkpoints",
            checkpoint_every=2,
            average_decay=0.9,
            rate=lambda step: 0.1 if step >= 6 else 1.0,
            **{"log_every": 1} | settings,
        )

    def losses(self, batch: MotionBatch) -> loop.Losses:
        loss = (self.network(batch.motion).squeeze(-1) - batch.motion[..., 0]).square().mean()
        return loss, {"loss": loss}

    def run(self, stop_after: int | None = None, validation: Validation | None = None) -> None:
        """stop_after: raise Interrupted when the batch after that many is asked for."""

        def batches(start: int) -> Iterator[MotionBatch]:
            for step in range(start, self.steps):
                if step == stop_after:
                    raise InterruptedError
                yield self.source[step]

        accelerator = Accelerator(cpu=True)
        loop.run(accelerator, self.state, self.settings, batches, self.losses, validation=validation)


def equal(a: Fit, b: Fit) -> bool:
    left, right = a.state.tensors(), b.state.tensors()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
