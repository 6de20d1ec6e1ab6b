"""Steps as CUDA graphs: each shape of a batch is captured once, and then replayed with a single launch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from adaqf_train.config import TrainingConfig
from adaqf_train.data.batches import MotionBatch
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.step import Step, StepResult

EAGER = 2  # steps of each shape that are run before it is captured: kernels are planned and compiled in them


def obstacle(accelerator: Accelerator, objective: nn.Module, training: TrainingConfig) -> str | None:
    """The reason why steps of this fit cannot be captured; None if they can."""
    if accelerator.device.type != "cuda":
        return "the device is not a GPU"
    if not training.graphs:
        return "training.graphs is off"
    if accelerator.num_processes > 1:
        return "several processes exchange gradients"
    if not getattr(objective, "capturable", False):
        return "this fit does not support it"
    if training.accumulate > 1:
        return "training.accumulate divides the batch"
    if accelerator.scaler is not None:
        return "the scaler of fp16 reads gradients back"
    return None


@dataclass
class _Captured:
    """A step of one shape."""

    graph: torch.cuda.CUDAGraph
    batch: MotionBatch  # whose tensors the graph reads
    result: StepResult  # whose tensors the graph writes


class GraphStep(Step):
    """Optimises as `Step` does; forward, backward, clipping, AdamW and average are one graph for each shape.

    The first steps of a shape are run kernel by kernel. A replay draws other dropout masks than these would, so on a
    GPU a resumed run equals an uninterrupted one only as far as both capture at the same steps.
    """

    def __init__(
        self, accelerator: Accelerator, objective: nn.Module, state: TrainState, training: TrainingConfig
    ) -> None:
        super().__init__(accelerator, objective, state, training)
        self.optimizer = state.optimizer.optimizer  # as accelerate wrapped it
        device = accelerator.device
        for group in self.optimizer.param_groups:
            group["lr"], group["capturable"] = torch.tensor(float(group["lr"]), device=device), True
        self._blend = torch.zeros((), device=device)  # what the average takes of the new weights
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()
        self._seen: dict[tuple, int] = {}
        self._captured: dict[tuple, _Captured] = {}

    def __call__(self, batch: MotionBatch, *, logged: bool) -> StepResult:
        step, device = self.state.step, self.accelerator.device
        shape = (*batch.motion.shape, batch.tokens)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"].fill_(rate * self.rate(step))
        self.state.step += 1
        self._blend.fill_(1 - self.decay())
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            result = self._run(shape, batch)
        torch.cuda.current_stream(device).wait_stream(self._stream)
        return result

    def _run(self, shape: tuple, batch: MotionBatch) -> StepResult:
        if self._seen.setdefault(shape, 0) < EAGER:
            self._seen[shape] += 1
            return self._step(batch.to(self.accelerator.device))
        if shape not in self._captured:
            self._captured[shape] = self._capture(batch)
        captured = self._captured[shape]
        for name, value in vars(captured.batch).items():
            if isinstance(value, Tensor):
                value.copy_(getattr(batch, name), non_blocking=True)
        captured.graph.replay()
        for parameter in self.parameters:  # a replay does not count as a change, which caches of weights look for
            torch.autograd.graph.increment_version(parameter)
        found = captured.result  # overwritten by the next replay
        parts = {name: value.clone() for name, value in found.parts.items()}
        return StepResult(found.loss.clone(), parts, found.norm.clone())

    def _capture(self, batch: MotionBatch) -> _Captured:
        static, graph = batch.to(self.accelerator.device), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # "thread_local": the thread that pins batches may call CUDA meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = self._step(static)
        return _Captured(graph, static, result)

    def _step(self, batch: MotionBatch) -> StepResult:
        """One step of device work alone."""
        loss, parts = self.backward(batch)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.training.clip_norm or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.state.average is not None:
            with torch.no_grad():
                change = torch._foreach_sub(self.parameters, self.state.average)
                torch._foreach_mul_(change, self._blend)
                torch._foreach_add_(self.state.average, change)
        return StepResult(loss, parts, norm.detach())


def step_for(
    accelerator: Accelerator,
    objective: nn.Module,
    state: TrainState,
    training: TrainingConfig,
    say: Callable[[str], None] = warnings.warn,
) -> Step:
    """The fastest step that this fit allows. If a GPU cannot capture it, `say` receives the reason."""
    why = obstacle(accelerator, objective, training)
    if why is None:
        return GraphStep(accelerator, objective, state, training)
    if accelerator.device.type == "cuda" and training.graphs and accelerator.is_main_process:
        say(f"steps are not captured as CUDA graphs: {why}")
    return Step(accelerator, objective, state, training)
