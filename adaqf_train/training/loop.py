"""The optimisation loop that every fit shares: schedule, clipping, average, checkpoints, one live line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from adaclip import AdaCLIPError
from adaqf_train import seeding
from adaqf_train.data.batches import MotionBatch
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState

Losses = tuple[Tensor, dict[str, Tensor]]  # what this process minimises, and the scalars to show


class DivergenceError(AdaCLIPError, FloatingPointError):
    """The loss is no longer finite; the message names the batch."""


@dataclass(frozen=True)
class LoopSettings:
    """What a fit asks of the loop."""

    name: str  # of the progress bar, the log and the checkpoints
    steps: int
    seed: int  # of dropout
    log: Path  # JSON lines, one every log_every steps; TensorBoard files beside it
    checkpoints: Path | None = None  # None: a killed fit starts over
    checkpoint_every: int = 1
    log_every: int = 10
    clip_norm: float | None = None
    average_decay: float | None = None
    rate: Callable[[int], float] = lambda step: 1.0  # factor on the learning rates


def run(
    accelerator: Accelerator,
    state: TrainState,
    settings: LoopSettings,
    batches: Callable[[int], Iterator[MotionBatch]],
    losses: Callable[[MotionBatch], Losses],
) -> None:
    """Optimises until settings.steps, resuming from the newest checkpoint.

    batches(start): this process's batches from that step on. losses(batch): this process's scalars. Each step
    reseeds dropout from (seed, step, process), so a resumed run equals an uninterrupted one bit for bit. Raises
    DivergenceError when the loss is not finite.
    """
    rates = [group["lr"] for group in state.optimizer.param_groups]
    parameters = state.parameters()
    if settings.average_decay is not None:
        state.average = [parameter.detach().clone() for parameter in parameters]
    if settings.checkpoints is not None:
        if accelerator.is_main_process:
            checkpoint.clean(settings.checkpoints)
        checkpoint.resume(settings.checkpoints, state)
    log = _Log(settings.log, state.step) if accelerator.is_main_process else None
    bar = tqdm(
        total=settings.steps,
        initial=state.step,
        desc=settings.name,
        unit="step",
        disable=not accelerator.is_main_process,
        mininterval=0.5,
    )
    for batch in batches(state.step):
        torch.manual_seed(seeding.mix(settings.seed, state.step, accelerator.process_index))
        for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * settings.rate(state.step)
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            loss, parts = losses(batch)
        accelerator.backward(loss)
        if settings.clip_norm is not None:
            accelerator.clip_grad_norm_(parameters, settings.clip_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        if state.average is not None:
            _update_average(state.average, parameters, settings.average_decay, state.step)
        bar.update()
        if state.step % settings.log_every == 0 or state.step == settings.steps:
            values = _mean_over_processes(accelerator, parts)
            if not all(map(math.isfinite, values.values())):
                raise DivergenceError(
                    f"{settings.name}: the losses are {values} after step {state.step}; the last batch was "
                    f"{', '.join(batch.keys[:8])} … Lower the learning rate or set clip_norm."
                )
            bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
            if log is not None:
                log.write(state.step, values)
        due = state.step % settings.checkpoint_every == 0 and state.step < settings.steps
        if settings.checkpoints is not None and due and accelerator.is_main_process:
            checkpoint.save(settings.checkpoints, state)
    bar.close()
    if log is not None:
        log.close()


def use_average(state: TrainState) -> None:
    """Puts the moving average into the parameters, if there is one."""
    if state.average is not None:
        with torch.no_grad():
            for parameter, value in zip(state.parameters(), state.average, strict=True):
                parameter.copy_(value)


@torch.no_grad()
def _update_average(average: list[Tensor], parameters: list[Tensor], decay: float, step: int) -> None:
    # The usual warm-up, so that a short run's average is not its random start.
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)


def _mean_over_processes(accelerator: Accelerator, parts: Losses) -> dict[str, float]:
    stacked = torch.stack([value.detach().float() for value in parts.values()])
    means = accelerator.reduce(stacked, reduction="mean").tolist()
    return dict(zip(parts, means, strict=True))


class _Log:
    """Losses as JSON lines and for TensorBoard; a resumed run drops what lies after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step] if path.is_file() else []
        path.write_text("".join(f"{line}\n" for line in kept))
        self.file = path.open("a")
        self.board = SummaryWriter(str(path.with_suffix("")), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # a line that a kill cut short
