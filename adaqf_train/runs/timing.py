"""Timing of a fit's real steps and of sampling, and counting of their operations."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adaqf_train.config import TrainingConfig
from adaqf_train.data.batches import StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.training.fit import prepare
from adaqf_train.training.graphs import EAGER, step_for
from adaqf_train.training.objective import Objective
from adaqf_train.training.step import Step

COUNTED = 2  # clips whose operations are counted
LOOKED_AT = 15  # batches of which the one of median length is counted
MOST_STEPS = 50  # that are timed
WARM_UP = 60.0  # seconds beyond the budget after which one timed step is enough
# Children of an objective whose operations are counted by themselves; the rest belongs to what it learns first.
PARTS = {"encoder": "text encoder", "tower": "text encoder", "feedback": "feedback"}


@dataclass(frozen=True)
class Timing:
    """What was measured of a stage."""

    seconds: float  # median of a step
    steps: int  # that were timed
    clips: int  # in each of them; where these are fewer than the batch, seconds are scaled
    flops: dict[str, float]  # floating-point operations of a step by part of the objective
    memory: int  # bytes: the device's peak; on a CPU weights, gradients, moments and average


def ready(
    accelerator: Accelerator, dataset: MotionDataset, objective: Objective, training: TrainingConfig
) -> tuple[StepBatches, Step]:
    """Set up a fit: its batches and its step."""
    source, state, wrapped = prepare(accelerator, dataset, objective, training)
    return source, step_for(accelerator, wrapped, state, training)


def measure(
    accelerator: Accelerator, dataset: MotionDataset, objective: Objective, training: TrainingConfig, budget: float
) -> Timing:
    """Time steps of a fit, data loading included, for about `budget` seconds, and count the operations of a step.

    On a CPU that needs longer than the budget for a step, smaller batches are timed and scaled.
    """
    on_gpu = accelerator.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(accelerator.device)
    start, batch_size = time.perf_counter(), training.batch
    flops = count_flops(accelerator, dataset, objective, training)
    expected = (time.perf_counter() - start) / COUNTED * batch_size
    if expected > budget and not on_gpu:
        # No fewer than an eighth: what a step takes for any number of clips is scaled as well.
        clips = max(batch_size // 8, round(batch_size * budget / expected), COUNTED)
        training = replace(training, batch=clips, accumulate=1)
    source, step = ready(accelerator, dataset, objective, training)
    seconds, seen = [], Counter()
    begin = start = time.perf_counter()
    for batch in source.from_step(0, 100 * MOST_STEPS, training.workers):
        step(batch, logged=False)
        finish(accelerator)
        now = time.perf_counter()
        seen[batch.motion.shape, batch.tokens] += 1
        # First steps plan, compile and capture. On a CPU, one that takes longer than the budget counts all the same.
        warm = seen[batch.motion.shape, batch.tokens] > EAGER + 1 if on_gpu else step.state.step > 1
        if warm or (now - begin > budget and not on_gpu):
            seconds.append(now - start)
        if len(seconds) == MOST_STEPS or sum(seconds) > budget or (seconds and now - begin > budget + WARM_UP):
            break
        start = time.perf_counter()
    memory = torch.cuda.max_memory_allocated(accelerator.device) if on_gpu else _resident(objective, training)
    accelerator.free_memory()
    median = statistics.median(seconds) * batch_size / training.batch
    return Timing(median, len(seconds), training.batch, flops, memory)


def count_flops(
    accelerator: Accelerator, dataset: MotionDataset, objective: Objective, training: TrainingConfig
) -> dict[str, float]:
    """Count the operations of a step before anything is compiled: on a few clips, in a batch of median length."""
    drawn = {"captions": objective.captions, "diffusion": objective.diffusion, "bucket": training.bucket}
    source = StepBatches(dataset, training.batch, training.seed, **drawn)
    batches = sorted((source[step] for step in range(LOOKED_AT)), key=lambda batch: batch.motion.shape[1])
    batch = batches[LOOKED_AT // 2].parts(training.batch // COUNTED)[0].to(accelerator.device)
    rnn, backward = torch.ops.aten._cudnn_rnn, torch.ops.aten._cudnn_rnn_backward
    objective.to(accelerator.device)
    with (
        FlopCounterMode(display=False, custom_mapping={rnn: _rnn_flops, backward: _rnn_backward_flops}) as counter,
        sdpa_kernel(SDPBackend.MATH),  # the counter has no formula for the fused kernel of a CPU
        accelerator.autocast(),
    ):
        objective(batch)[0].backward()
    objective.zero_grad(set_to_none=True)
    scale, root = training.batch / len(batch.keys), type(objective).__name__
    found: Counter[str] = Counter()
    for child, part in PARTS.items():
        found[part] += scale * sum(counter.flop_counts.get(f"{root}.{child}", {}).values())
    rest = scale * counter.get_total_flops() - found.total()
    return {next(iter(objective.learns)): rest} | {part: flops for part, flops in found.items() if flops}


def _rnn_flops(inputs: Sequence[int], weights: Sequence[Sequence[int]], *rest: object, **options: object) -> int:
    """Operations of cuDNN's recurrent layer, which torch does not count; every row meets every matrix once."""
    return 2 * prod(inputs[:2]) * sum(prod(weight) for weight in weights if len(weight) == 2)


def _rnn_backward_flops(inputs: Sequence[int], weights: Sequence[Sequence[int]], *rest: object, **options) -> int:
    weights_learn = rest[-1][-1]
    return (1 + weights_learn) * _rnn_flops(inputs, weights)


def time_sampling(generator: MotionGenerator, prompts: Sequence[str], frames: int, budget: float) -> tuple[float, int]:
    """Time the sampling of a batch.

    Args:
        generator: With the sampling settings to time.
        prompts: One for each motion.
        frames: Of each motion.
        budget: Seconds after which steps are extrapolated on a CPU.

    Returns:
        Seconds of the whole batch, and the denoising steps that were timed.
    """
    marks = []

    def mark() -> None:
        marks.append(time.perf_counter())
        if len(marks) > 1 and marks[-1] - marks[0] > budget:
            raise _Enough

    def run(on_step: Callable[[], object]) -> float:
        start = time.perf_counter()
        generator.generate_features(prompts, [frames] * len(prompts), on_step=on_step)
        return time.perf_counter() - start

    if generator.device.type != "cpu":
        for _ in range(2):
            run(lambda: None)  # plans, compiles and captures
        return statistics.median(run(lambda: None) for _ in range(3)), 3 * generator.steps
    try:
        seconds = run(mark)
    except _Enough:
        seconds = statistics.median(np.diff(marks)) * generator.steps
    return seconds, len(marks)


class _Enough(Exception):
    """Ends a call of the sampler whose steps have been timed."""


def parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """Count parameters; trainable: only those that learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def finish(accelerator: Accelerator) -> None:
    """Wait until the device is idle."""
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)


def _resident(objective: Objective, training: TrainingConfig) -> int:
    """Bytes of float32 weights, gradients, AdamW's two moments and the average."""
    return 4 * (parameters(objective) + (3 + (training.ema is not None)) * parameters(objective, trainable=True))
