"""Choosing among a run's weights by their score on the validation split, and ending when it improves no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from adaqf_train.config import ValidationConfig
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.tracking import Tracking, Untracked

HIGHER_IS_BETTER = {"r_precision_3"}


@dataclass(frozen=True)
class Validation:
    """Scores the weights every so many steps and keeps a checkpoint of the best.

    What it has found is `TrainState.record`, which is saved with every checkpoint. A validation that was cut off is
    made again when the run goes on, with the same result.
    """

    config: ValidationConfig
    steps: int  # of the fit: its last weights are always scored
    score: Callable[[int], Mapping[str, float]]  # of the weights after that step; called on the main process
    best: Path  # folder of the best checkpoint

    def due(self, state: TrainState) -> bool:
        """Whether the weights are to be scored now."""
        at = state.step > 0 and (state.step % self.config.every == 0 or state.step == self.steps)
        return at and state.record.get("validated", 0) < state.step

    def exhausted(self, state: TrainState) -> bool:
        """Whether there was no better score for too long."""
        return self.config.patience is not None and state.record.get("without_better", 0) >= self.config.patience

    def run_if_due(self, accelerator: Accelerator, state: TrainState, tracking: Tracking | Untracked) -> None:
        """Scores the weights on the main process, if it is time; all processes learn what came of it."""
        if not self.due(state):
            return
        outcome: list[Mapping[str, float] | None] = [None]
        if accelerator.is_main_process:
            outcome = [dict(self.score(state.step))]
        (values,) = broadcast_object_list(outcome)
        value = values[self.config.metric]
        better = self._better(value, state.record.get("best"))
        state.record = {
            "validated": state.step,
            "best": value if better else state.record.get("best"),
            "best_step": state.step if better else state.record.get("best_step"),
            "without_better": 0 if better else state.record.get("without_better", 0) + 1,
        }
        if better and accelerator.is_main_process:
            checkpoint.write(self.best, state)
        tracking.validation(state.step, values)
        tracking.say(f"step {state.step}, {self.config.metric} on val {value:.4g}{' (best)' if better else ''}")
        if self.exhausted(state):
            best = state.record["best_step"]
            tracking.say(f"no better score in {self.config.patience} validations; the best was at step {best}")
        accelerator.wait_for_everyone()

    def _better(self, value: float, best: float | None) -> bool:
        if not math.isfinite(value):
            return False
        return best is None or (value > best if self.config.metric in HIGHER_IS_BETTER else value < best)
