"""How fast this machine is: a few real steps of every stage, timed.

Where a step at the recipe's size would take too long, one of fewer clips is timed and scaled by the work, which grows
with the clips. What is timed is the training's own objective on batches of the training's own loader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from adaqf_train.config import EvaluatorConfig, ExtractorConfig, RunConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.generators.mdm.objective import Objective
from adaqf_train.judges.contrastive import ContrastiveObjective, objective_of
from adaqf_train.planning.networks import Networks
from adaqf_train.training import loop

FEW = 4  # clips of the step that is timed first; twice as many follow, as long as there is time
STEPS = 20  # timed at most at the size that was reached


@dataclass(frozen=True)
class Speed:
    """What a step of a stage takes on one process, at the recipe's batch."""

    seconds: float
    steps: int  # that were timed
    clips: int  # in each of them
    scaled: bool  # from fewer clips than the recipe's batch has
    activations: int  # bytes kept for the backward pass


def contrastive_step(
    accelerator: Accelerator,
    towers: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    config: ExtractorConfig | EvaluatorConfig,
) -> tuple[Callable[[MotionBatch], Tensor], torch.optim.Optimizer, list[nn.Parameter]]:
    """Loss, optimiser and parameters of the extractors' or the evaluator's fit."""
    learnt = [p for p in towers.parameters() if p.requires_grad]
    towers.train()
    wrapped, optimizer = accelerator.prepare(towers, loop.adamw(learnt, 0.01, accelerator, rate=config.learning_rate))
    objective = ContrastiveObjective(accelerator, wrapped, tokenizer, **objective_of(config))
    return lambda batch: objective(batch)[0], optimizer, learnt


def adaqf_step(
    accelerator: Accelerator, networks: Networks, config: RunConfig, captions: Sequence[str]
) -> tuple[Callable[[MotionBatch], Tensor], torch.optim.Optimizer, list[nn.Parameter]]:
    """Loss, optimiser and parameters of the baseline's or AdaQF's fit. captions: all that will be seen."""
    networks.encoder.requires_grad_(config.encoder.tuning == "full")
    for parameter in networks.encoder.adapter_parameters():
        parameter.requires_grad_(config.encoder.tuning == "lora")
    extractors = networks.extractors if config.feedback.active else None
    objective = Objective(
        accelerator,
        networks.encoder,
        networks.denoiser,
        networks.diffusion,
        extractors,
        config,
        captions if config.training.cache_text else None,
    )
    learnt = [p for module in (networks.denoiser, networks.encoder) for p in module.parameters() if p.requires_grad]
    return lambda batch: objective(batch)[0], objective.optimizer, learnt


def measure(
    accelerator: Accelerator,
    loss: Callable[[MotionBatch], Tensor],
    optimizer: torch.optim.Optimizer,
    learnt: list[nn.Parameter],
    source: StepBatches,
    *,
    average_decay: float | None,
    workers: int,
    budget: float,
) -> Speed:
    """Times steps for about `budget` seconds. workers: 0 counts the making of a batch in, as the fit waits for it."""
    average = [p.detach().clone() for p in learnt] if average_decay is not None else None

    def step(batch: MotionBatch) -> None:
        batch = batch.to(accelerator.device)
        with accelerator.autocast():
            value = loss(batch)
        accelerator.backward(value)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(average, learnt, 1 - average_decay)

    first = source[0]
    clips, kept = len(first.keys), activations(step, first)
    rows, seconds = FEW, timed(accelerator, lambda: step(first_of(first, FEW)))
    more = seconds / rows  # that another clip takes
    while rows < clips and (accelerator.device.type != "cpu" or 3 * 2 * seconds <= budget):
        before, rows = (rows, seconds), min(2 * rows, clips)
        batch = first_of(first, rows)
        step(batch)
        seconds = timed(accelerator, lambda batch=batch: step(batch))
        more = min(max((seconds - before[1]) / (rows - before[0]), 0.0), seconds / rows)
    steps = max(2, min(STEPS, int(budget / seconds)))
    ahead = [first_of(source[i], rows) for i in range(1, steps + 1)] if workers or rows < clips else None
    frames = 0

    def all_steps() -> None:
        nonlocal frames
        for i in range(steps):
            batch = ahead[i] if ahead else source[i + 1]
            frames += batch.motion.shape[1]
            step(batch)

    mean = timed(accelerator, all_steps) / frames * padded_frames(source)
    # What a step takes however few its clips are is not scaled with them.
    return Speed(mean * (1 + more * (clips - rows) / seconds), steps, rows, rows < clips, kept)


def padded_frames(source: StepBatches, steps: int = 200) -> float:
    """Frames that clips are padded to, on average over that many batches."""
    unit, per_epoch = source.dataset.config.unit_frames, len(source.dataset) // source.batch_size
    longest = []
    for step in range(steps):
        epoch, position = divmod(step, per_epoch)
        rows = source.order(epoch)[position * source.batch_size : (position + 1) * source.batch_size]
        longest.append(max(len(source.dataset.items[row].vectors) for row in rows) // unit * unit)
    return sum(longest) / steps


def first_of(batch: MotionBatch, rows: int) -> MotionBatch:
    """The first rows of a batch, padded as it was."""
    return replace(batch, **{f.name: getattr(batch, f.name)[:rows] for f in fields(batch)})


def timed(accelerator: Accelerator, run: Callable[[], object]) -> float:
    """Seconds, with what an accelerator still has to do."""
    _finish(accelerator)
    start = time.perf_counter()
    run()
    _finish(accelerator)
    return time.perf_counter() - start


def activations(step: Callable[[MotionBatch], None], batch: MotionBatch) -> int:
    """Bytes that the forward pass of a batch keeps for its backward pass: what grows with the clips.

    Weights are kept as well, under many names, and are no part of it: a step of four clips is compared with one of two.
    """
    kept = []
    for rows in (FEW // 2, FEW):
        with _kept_for_backward() as total:
            step(first_of(batch, rows))
        kept.append(total[0])
    return (kept[1] - kept[0]) * len(batch.keys) // (FEW - FEW // 2)


@contextmanager
def _kept_for_backward() -> Iterator[list[int]]:
    total, seen = [0], set()

    def pack(tensor: Tensor) -> Tensor:
        view = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape)
        if view not in seen:
            seen.add(view)
            total[0] += min(tensor.nbytes, tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total


def _finish(accelerator: Accelerator) -> None:
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)
