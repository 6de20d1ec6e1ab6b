"""The training loop of every fit. It reads the device only where it logs, saves or validates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaqf_train import seeding
from adaqf_train.config import TrainingConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.errors import TrainingStopped
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.divergence import LossWindow
from adaqf_train.training.graphs import step_for
from adaqf_train.training.stopping import StopSignal
from adaqf_train.training.tracking import Tracking, Untracked
from adaqf_train.training.validation import Validation

MEET_EVERY = 10  # steps after which several processes exchange whether one of them received SIGTERM


@dataclass(frozen=True)
class Place:
    """Where a fit writes."""

    log: Path  # JSON lines; those of validations and the trackers' files lie beside it
    checkpoints: Path | None = None  # None: a killed fit starts over

    @property
    def name(self) -> str:
        """What the fit is called on the screen."""
        return self.log.stem

    @property
    def best(self) -> Path | None:
        """The checkpoint with the best validation."""
        return None if self.checkpoints is None else self.checkpoints / "best"


def run(
    accelerator: Accelerator,
    state: TrainState,
    training: TrainingConfig,
    place: Place,
    batches: Callable[[int], Iterator[MotionBatch]],
    objective: nn.Module,
    validation: Validation | None = None,
) -> None:
    """Optimise until `training.steps`, or until validation ends it.

    Each step reseeds dropout from (seed, step, process), so that on a CPU a resumed run equals an
    uninterrupted one bit for bit.

    state: resumed from the newest checkpoint. batches(step): this process's batches from that step on. objective: as
    accelerate wrapped it.

    Raises:
        DivergenceError: A loss is not finite, or too large.
        TrainingStopped: After SIGTERM, with everything saved; several processes stop within MEET_EVERY steps.
    """
    # Resume.
    _resume(accelerator, state, training, place)
    step = step_for(accelerator, objective, state, training)
    window = LossWindow(training.max_loss, place.log.with_name(f"{place.name}_divergence.json"))
    over = False
    with StopSignal() as stop, _tracking(accelerator, state, training, place) as tracking:
        if validation is not None:
            validation.run_if_due(accelerator, state, training.steps, place.best, tracking)  # it may have been cut off
            over = validation.exhausted(state)
        for batch in batches(training.steps if over else state.step):
            # Step.
            torch.manual_seed(seeding.mix(training.seed, state.step, accelerator.process_index))
            logged = (state.step + 1) % training.log_every == 0 or state.step + 1 == training.steps
            result = step(batch, logged=logged)
            window.add(state.step, result.loss, batch)
            tracking.advance()
            # Log.
            if logged:
                window.check(accelerator)
                values = _mean_over_processes(accelerator, result.parts)
                tracking.losses(state.step, values, norm=float(result.norm), rate=step.rate(state.step - 1))
            # Save.
            stopping = stop.agreed(accelerator, meeting=logged or state.step % MEET_EVERY == 0)
            validating = validation is not None and validation.due(state, training.steps)
            if stopping or validating or state.step % training.checkpoint_every == 0 or state.step == training.steps:
                window.check(accelerator, step.parameters)  # a checkpoint must not hold lost weights
                _save(accelerator, state, training, place)
            if stopping:
                raise TrainingStopped(_farewell(state, place))
            # Validate.
            if validating:
                validation.run_if_due(accelerator, state, training.steps, place.best, tracking)
                if validation.exhausted(state):
                    break
        window.check(accelerator, step.parameters)
        if stop.agreed(accelerator, meeting=True):  # SIGTERM came while the last weights were validated
            _save(accelerator, state, training, place)
            raise TrainingStopped(_farewell(state, place))


def _resume(accelerator: Accelerator, state: TrainState, training: TrainingConfig, place: Place) -> None:
    """Load the newest checkpoint, if there is one."""
    state.scaler = accelerator.scaler
    if place.checkpoints is not None:
        if accelerator.is_main_process:
            checkpoint.clean(place.checkpoints, training.keep)
        checkpoint.resume(place.checkpoints, state)


def _tracking(
    accelerator: Accelerator, state: TrainState, training: TrainingConfig, place: Place
) -> Tracking | Untracked:
    if not accelerator.is_main_process:
        return Untracked()
    validated = state.record.get("validated", 0)
    return Tracking(place.name, place.log, training.trackers, training.steps, state.step, validated)


def _save(accelerator: Accelerator, state: TrainState, training: TrainingConfig, place: Place) -> None:
    if place.checkpoints is not None and accelerator.is_main_process:
        checkpoint.save(place.checkpoints, state, training.keep)


def _farewell(state: TrainState, place: Place) -> str:
    kept = "it is saved" if place.checkpoints is not None else "nothing of this fit is kept"
    return f"{place.name}: stopped after step {state.step}; {kept}. Run the same command again to continue."


def _mean_over_processes(accelerator: Accelerator, parts: dict[str, Tensor]) -> dict[str, float]:
    stacked = torch.stack([value.float() for value in parts.values()])
    means = accelerator.reduce(stacked, reduction="mean").tolist()
    return dict(zip(parts, means, strict=True))
