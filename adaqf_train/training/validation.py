"""Scores of the weights on the validation split during a fit: the best are kept, and a fit without progress ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from adaqf_train.config import ValidationConfig
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.tracking import Tracking, Untracked

HIGHER_IS_BETTER = {"r_precision_3"}
Score = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True)
class Validation:
    """Scores the averaged weights every so many steps.

    Its findings are `TrainState.record`, which every checkpoint holds. A validation that was cut off is repeated when
    the fit resumes, with the same result.
    """

    config: ValidationConfig
    score: Score  # figures of the weights after a step, which it finds in the networks; called on the main process

    def due(self, state: TrainState, steps: int) -> bool:
        """Whether to score now; the last of `steps` weights always are."""
        at = state.step > 0 and (state.step % self.config.every == 0 or state.step == steps)
        return at and state.record.get("validated", 0) < state.step

    def exhausted(self, state: TrainState) -> bool:
        """Whether the score has not improved for too long."""
        return self.config.patience is not None and state.record.get("without_better", 0) >= self.config.patience

    def run_if_due(
        self, accelerator: Accelerator, state: TrainState, steps: int, best: Path | None, tracking: Tracking | Untracked
    ) -> None:
        """Score the weights on the main process if it is time, and share the outcome with all processes.

        best: folder for a checkpoint of the best weights; None: none is kept.
        """
        if not self.due(state, steps):
            return
        outcome: list[Mapping[str, float] | None] = [None]
        if accelerator.is_main_process:
            with averaged(state):
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
        if better and best is not None and accelerator.is_main_process:
            checkpoint.write(best, state)
        tracking.validation(state.step, values)
        tracking.say(f"step {state.step}, {self.config.metric} on val {value:.4g}{' (best)' if better else ''}")
        if self.exhausted(state):
            found = state.record["best_step"]
            tracking.say(f"no better score in {self.config.patience} validations; the best was at step {found}")
        accelerator.wait_for_everyone()

    def _better(self, value: float, best: float | None) -> bool:
        if not math.isfinite(value):
            return False
        return best is None or (value > best if self.config.metric in HIGHER_IS_BETTER else value < best)


@contextmanager
def averaged(state: TrainState) -> Iterator[None]:
    """Within this context the networks are in eval mode with their averaged weights."""
    modes = {part: part.training for network in state.modules.values() for part in network.modules()}
    with state.averaged():
        for network in state.modules.values():
            network.eval()
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode
