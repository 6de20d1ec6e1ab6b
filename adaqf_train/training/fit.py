"""The one set-up of every fit: batches, optimiser, schedule, average, checkpoints, validation."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

from adaqf_train.config import TrainingConfig
from adaqf_train.data.batches import StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import ConfigError
from adaqf_train.training import checkpoint, loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.graphs import obstacle
from adaqf_train.training.loop import Place
from adaqf_train.training.objective import Objective
from adaqf_train.training.validation import Validation


def fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    objective: Objective,
    training: TrainingConfig,
    place: Place,
    validation: Validation | None = None,
) -> None:
    """Train an objective's networks in place and leave them on the CPU, in eval mode, with their averaged weights.

    An interrupted fit resumes from its newest checkpoint.

    Args:
        accelerator: Device, precision and processes.
        dataset: Split to learn from.
        objective: Loss and networks.
        training: Every setting applies, or is refused.
        place: Where logs and checkpoints go.
        validation: Scores on the validation split; with `select="best"` its best weights are the result.

    Raises:
        ConfigError: A setting that this fit or this launch cannot follow.
        DivergenceError: A loss that is not finite, or too large.
        TrainingStopped: After SIGTERM, with everything saved.
    """
    best = validation is not None and validation.config.select == "best"
    if best and place.best is None:
        raise ValueError("The best weights are asked for, but there is no folder for checkpoints.")
    source, state, wrapped = prepare(accelerator, dataset, objective, training)
    try:
        loop.run(
            accelerator,
            state,
            training,
            place,
            lambda start: source.from_step(start, training.steps, training.workers),
            wrapped,
            validation,
        )
        if best and place.best.is_dir():
            checkpoint.read(place.best, state)
        state.use_average()
    finally:
        accelerator.free_memory()
        objective.cpu()
    for network in objective.learns.values():
        network.eval()


def prepare(
    accelerator: Accelerator, dataset: MotionDataset, objective: Objective, training: TrainingConfig
) -> tuple[StepBatches, TrainState, nn.Module]:
    """Set up everything that a step needs, with the networks on the accelerator's device and in training mode.

    Args:
        accelerator: Device, precision and processes.
        dataset: Split to learn from.
        objective: Loss and networks.
        training: Every setting applies, or is refused.

    Returns:
        This process's batches, the state before the first step, and the objective as accelerate wrapped it.

    Raises:
        ConfigError: A setting that this fit or this launch cannot follow.
    """
    _check(accelerator, objective, training)
    source = StepBatches(
        dataset,
        training.batch,
        training.seed,
        captions=objective.captions,
        diffusion=objective.diffusion,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        bucket=training.bucket,
        shapes=training.shapes,
    )
    if training.compile or obstacle(accelerator, objective, training) is None:
        for network in objective.compiles:
            network.compile()
    for network in objective.learns.values():
        network.train()
    objective.to(accelerator.device)
    optimizer = _adamw(accelerator, objective, training)
    # Data parallelism would send every buffer at every step; those that are not saved are the same on all processes.
    kept = objective.state_dict().keys()
    objective._ddp_params_and_buffers_to_ignore = [name for name, _ in objective.named_buffers() if name not in kept]
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    state = TrainState(objective.learns, optimizer)
    if training.ema is not None:
        state.average = [parameter.detach().clone() for parameter in state.parameters()]
    return source, state, wrapped


def _adamw(accelerator: Accelerator, objective: Objective, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW, in one kernel where there is one, with a group for each network."""
    rates = {"encoder": training.adapter_learning_rate or training.learning_rate}
    groups = [
        {"params": learnt, "lr": rates.get(name, training.learning_rate)}
        for name, network in objective.learns.items()
        if (learnt := [parameter for parameter in network.parameters() if parameter.requires_grad])
    ]
    fused = accelerator.device.type in ("cpu", "cuda", "xpu")
    return torch.optim.AdamW(groups, lr=training.learning_rate, weight_decay=training.weight_decay, fused=fused)


def _check(accelerator: Accelerator, objective: Objective, training: TrainingConfig) -> None:
    """Refuse settings that this fit would ignore."""
    share = training.batch // accelerator.num_processes
    if share % training.accumulate:
        raise ConfigError(
            f"training.batch={training.batch} gives each of {accelerator.num_processes} processes {share} clips, which "
            f"training.accumulate={training.accumulate} does not divide. Change one of them."
        )
    if training.accumulate > 1 and not objective.accumulates:
        raise ConfigError(
            "training.accumulate would change this fit: its codebooks follow whole batches. Leave it out."
        )
    if training.adapter_learning_rate is not None and "encoder" not in objective.learns:
        raise ConfigError("training.adapter_learning_rate is set, but this fit trains no text encoder. Leave it out.")
    if training.compile and not objective.compiles:
        raise ConfigError("training.compile is not available for this fit. Leave it out.")
    if training.cache_text and not objective.caches_text:
        raise ConfigError("training.cache_text has no effect on this fit, which never encodes a caption twice.")
    if training.precision not in (None, accelerator.mixed_precision):
        raise ConfigError(
            f"training.precision={training.precision} differs from the launch's {accelerator.mixed_precision}. Set it "
            "for the whole run: --set training.precision=…"
        )
