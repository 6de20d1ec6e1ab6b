"""The fit that the networks of every family share: batches, optimiser, schedule, average, checkpoints, curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from accelerate import Accelerator
from torch import nn

from adaqf_train.config import DiffusionConfig, TrainingConfig
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.training import loop
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.loop import Place

Objective = Callable[[nn.Module, MotionBatch], loop.Losses]  # of the network as accelerate wrapped it


@dataclass(frozen=True)
class Curve:
    """Looks at a network while it is trained, with its averaged weights.

    call(step) is called once a multiple of `every` steps is done; a resumed fit may call it again for the step of its
    checkpoint.
    """

    every: int
    call: Callable[[int], None]


def fit(
    accelerator: Accelerator,
    dataset: MotionDataset,
    network: nn.Module,
    objective: Objective,
    training: TrainingConfig,
    place: Place,
    *,
    text_drop: float = 0.0,
    diffusion: DiffusionConfig | None = None,
    curve: Curve | None = None,
) -> None:
    """Optimises the network in place and leaves it with its averaged weights, on the CPU, in eval mode.

    diffusion: of batches whose timesteps count; else text_drop is their probability of having no text. A fit that was
    interrupted goes on from its newest checkpoint.
    """
    trainable = [p for p in network.parameters() if p.requires_grad]
    optimizer = loop.adamw(trainable, training.weight_decay, accelerator, rate=training.learning_rate)
    wrapped, optimizer = accelerator.prepare(network.train(), optimizer)
    state = TrainState({"network": network}, optimizer)
    source = StepBatches(
        dataset,
        training.batch,
        training.seed,
        diffusion=diffusion or DiffusionConfig(text_drop=text_drop),
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    settings = loop.LoopSettings(
        name=place.log.stem,
        steps=training.steps,
        seed=training.seed,
        log=place.log,
        checkpoints=place.checkpoints,
        checkpoint_every=training.checkpoint_every,
        log_every=training.log_every,
        trackers=place.trackers,
        keep=training.keep,
        accumulate=training.accumulate,
        max_loss=training.max_loss,
        clip_norm=training.clip_norm,
        average_decay=training.ema,
        rate=lambda step: training.drop_by if training.drop_at is not None and step >= training.drop_at else 1.0,
    )

    def batches(start: int) -> Iterator[MotionBatch]:
        # The loop asks for a batch when all that belongs to the step before is done, its checkpoint too.
        for step, batch in enumerate(source.from_step(start, training.steps, training.workers), start):
            if curve is not None and step and step % curve.every == 0:
                with averaged(state):
                    curve.call(step)
            yield batch

    loop.run(accelerator, state, settings, batches, lambda batch: objective(wrapped, batch))
    state.use_average()
    network.eval()
    if curve is not None:
        curve.call(training.steps)
    accelerator.free_memory()
    network.cpu()


@contextmanager
def averaged(state: TrainState) -> Iterator[None]:
    """The modules with their averaged weights and in eval mode, and as they were afterwards."""
    modes = {part: part.training for module in state.modules.values() for part in module.modules()}
    with state.averaged():
        for module in state.modules.values():
            module.eval()
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode
