"""The optimisation loop that every fit shares; it reads the device only where it logs, saves or validates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaqf_train import seeding
from adaqf_train.data.batches import MotionBatch
from adaqf_train.errors import TrainingStopped
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.divergence import LossWindow
from adaqf_train.training.stopping import StopSignal
from adaqf_train.training.tracking import Tracking, Untracked
from adaqf_train.training.validation import Validation

Losses = tuple[Tensor, dict[str, Tensor]]  # what this process minimises, and the scalars to show


MEET_EVERY = 10  # steps after which several processes ask each other whether one was told to stop


@dataclass(frozen=True)
class Place:
    """Where a fit writes."""

    log: Path
    checkpoints: Path | None = None  # None: a killed fit starts over
    trackers: Sequence[str] = ()


@dataclass(frozen=True)
class LoopSettings:
    """What a fit asks of the loop."""

    name: str  # of the live line
    steps: int
    seed: int  # of dropout
    log: Path  # JSON lines, one every log_every steps; validations and trackers write beside it
    trackers: Sequence[str] = ()
    checkpoints: Path | None = None  # None: a killed fit starts over
    checkpoint_every: int = 1
    keep: int = 2  # newest checkpoints
    log_every: int = 10
    accumulate: int = 1  # parts of a batch that are computed one after the other
    clip_norm: float | None = None
    max_loss: float = math.inf  # beyond it the fit has diverged
    average_decay: float | None = None
    rate: Callable[[int], float] = lambda step: 1.0  # factor on the learning rates


def run(
    accelerator: Accelerator,
    state: TrainState,
    settings: LoopSettings,
    batches: Callable[[int], Iterator[MotionBatch]],
    losses: Callable[[MotionBatch], Losses],
    *,
    replicas: Sequence[nn.Module] = (),
    validation: Validation | None = None,
) -> None:
    """Optimises until settings.steps, or until validation ends it, resuming from the newest checkpoint.

    batches(start): this process's batches from that step on. losses(batch): this process's scalars. replicas: modules
    whose gradients data parallelism need not exchange before the last part of a batch. Each step reseeds dropout from
    (seed, step, process), so a resumed run equals an uninterrupted one bit for bit.

    Raises DivergenceError when a loss is not finite or too large, and TrainingStopped, with everything saved, after
    SIGTERM: at once on one process, within MEET_EVERY steps on several, which must agree on it.
    """
    rates = [group["lr"] for group in state.optimizer.param_groups]
    parameters = state.parameters()
    _resume(accelerator, state, settings, parameters)
    window = LossWindow(settings.max_loss, settings.log.with_name(f"{settings.log.stem}_divergence.json"))
    with StopSignal() as stop, _tracking(accelerator, state, settings) as tracking:
        if validation is not None:
            validation.run_if_due(accelerator, state, tracking)  # it may have been cut off
        for batch in batches(settings.steps if _is_over(state, validation) else state.step):
            torch.manual_seed(seeding.mix(settings.seed, state.step, accelerator.process_index))
            for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * settings.rate(state.step)
            loss, parts = _backward(accelerator, batch, losses, settings.accumulate, replicas)
            logged = (state.step + 1) % settings.log_every == 0 or state.step + 1 == settings.steps
            if logged or settings.clip_norm is not None:
                norm = accelerator.clip_grad_norm_(parameters, settings.clip_norm or math.inf)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            state.step += 1
            if state.average is not None:
                _update_average(state.average, parameters, settings.average_decay, state.step)
            window.add(state.step, loss, batch)
            tracking.advance()
            if logged:
                window.check(accelerator)
                values = _mean_over_processes(accelerator, parts)
                tracking.losses(state.step, values, norm=float(norm), rate=settings.rate(state.step - 1))
            stopping = stop.agreed(accelerator, meeting=logged or state.step % MEET_EVERY == 0)
            validating = validation is not None and validation.due(state)
            if stopping or validating or _is_due(state.step, settings):
                window.check(accelerator, parameters)  # no checkpoint is made of weights that are lost
                _save(accelerator, state, settings)
            if stopping:
                raise TrainingStopped(_farewell(state, settings))
            if validating:
                validation.run_if_due(accelerator, state, tracking)
                if _is_over(state, validation):
                    break
        window.check(accelerator, parameters)
        if stop.agreed(accelerator, meeting=True):  # while the last weights were validated
            _save(accelerator, state, settings)
            raise TrainingStopped(_farewell(state, settings))


def adamw(parameters: Iterable, weight_decay: float, accelerator: Accelerator, rate: float = 1e-3) -> torch.optim.AdamW:
    """AdamW in one kernel where there is one. parameters: tensors, or groups with rates of their own."""
    fused = accelerator.device.type in ("cpu", "cuda", "xpu")
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay, fused=fused)


def _resume(accelerator: Accelerator, state: TrainState, settings: LoopSettings, parameters: Sequence[Tensor]) -> None:
    """Goes back to the newest checkpoint, if there is one."""
    state.scaler = accelerator.scaler
    if settings.average_decay is not None:
        state.average = [parameter.detach().clone() for parameter in parameters]
    if settings.checkpoints is not None:
        if accelerator.is_main_process:
            checkpoint.clean(settings.checkpoints)
        checkpoint.resume(settings.checkpoints, state)


def _tracking(accelerator: Accelerator, state: TrainState, settings: LoopSettings) -> Tracking | Untracked:
    if not accelerator.is_main_process:
        return Untracked()
    validated = state.record.get("validated", 0)
    return Tracking(settings.name, settings.log, settings.trackers, settings.steps, state.step, validated)


def _backward(
    accelerator: Accelerator,
    batch: MotionBatch,
    losses: Callable[[MotionBatch], Losses],
    accumulate: int,
    replicas: Sequence[nn.Module],
) -> Losses:
    """Gradients of the batch's mean loss, computed in parts of equal size; the loss, and the means to show."""
    found = []
    pieces = batch.parts(accumulate)
    for number, piece in enumerate(pieces, start=1):
        with ExitStack() as waiting:
            for module in replicas if number < len(pieces) else ():
                waiting.enter_context(accelerator.no_sync(module))
            with accelerator.autocast():
                loss, parts = losses(piece.to(accelerator.device))
            accelerator.backward(loss / len(pieces))
        found.append((loss.detach(), {name: value.detach() for name, value in parts.items()}))
    if len(found) == 1:
        return found[0]
    mean = {name: torch.stack([parts[name] for _, parts in found]).mean() for name in found[0][1]}
    return torch.stack([loss for loss, _ in found]).mean(), mean


def _is_due(step: int, settings: LoopSettings) -> bool:
    return step % settings.checkpoint_every == 0 or step == settings.steps


def _is_over(state: TrainState, validation: Validation | None) -> bool:
    return validation is not None and validation.exhausted(state)


def _save(accelerator: Accelerator, state: TrainState, settings: LoopSettings) -> None:
    if settings.checkpoints is not None and accelerator.is_main_process:
        checkpoint.save(settings.checkpoints, state, settings.keep)


def _farewell(state: TrainState, settings: LoopSettings) -> str:
    kept = "it is saved" if settings.checkpoints is not None else "nothing of this fit is kept"
    return f"{settings.name}: stopped after step {state.step}; {kept}, and the same command goes on from there"


@torch.no_grad()
def _update_average(average: list[Tensor], parameters: list[Tensor], decay: float, step: int) -> None:
    # The usual warm-up, so that a short run's average is not its random start.
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)


def _mean_over_processes(accelerator: Accelerator, parts: dict[str, Tensor]) -> dict[str, float]:
    stacked = torch.stack([value.float() for value in parts.values()])
    means = accelerator.reduce(stacked, reduction="mean").tolist()
    return dict(zip(parts, means, strict=True))
