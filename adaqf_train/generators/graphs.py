"""Sampling as CUDA graphs: all steps of a batch, solver and noise included, are one launch."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adaqf_train.generators.sampling import Batch

if TYPE_CHECKING:
    from adaqf_train.generators.base import MotionGenerator

KEPT = 16  # graphs; an evaluation needs one for each padded length and number of tokens
FRAMES = 7  # units of frames that padded lengths are multiples of: with MDM's settings, 7 lengths up to 196 frames

OnStep = Callable[[], object]
Sample = Callable[[Batch, OnStep], Tensor]  # normalised features (B, T, D)


def capture(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record the kernels of `run` without running them; return how to run them, and the tensor that they write."""
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, pool=_pool(), capture_error_mode="thread_local"):
        result = run()
    return graph.replay, result


@dataclass
class _Captured:
    replay: Callable[[], None]
    batch: Batch  # whose tensors the graph reads
    result: Tensor  # (B, T, D), overwritten by every replay
    steps: int


class SamplingGraphs:
    """Samples batches of a generator; on a GPU, those of a shape that was sampled before replay a graph of it.

    The first batch of a shape is sampled kernel by kernel, so a single call costs no capture. A copy is empty.
    """

    def __init__(self, capture: Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]] = capture) -> None:
        self._capture = capture
        self._seen: Counter[Hashable] = Counter()
        self._captured: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._works = True

    def sample(
        self, generator: MotionGenerator, batch: Batch, settings: Any, on_step: OnStep, **options: Any
    ) -> Tensor:
        """Normalised features (B, T, D) of a batch, by `generator._sample`; T may exceed its longest motion.

        Motions of several segments, and calls with options, are sampled kernel by kernel.
        """
        if not (generator.graphs and batch.mask.is_cuda) or batch.segments or options:
            return generator._sample(batch, settings, on_step, **options)
        # Of the weights, the addresses: a graph reads what stands there when it is replayed.
        weights = tuple(part.data_ptr() for part in (*generator.parameters(), *generator.buffers()))
        padded = batch.padded(FRAMES * generator.unit_frames, settings.batch)
        key = (settings, generator.levels, weights)
        return self.run(key, lambda some, step: generator._sample(some, settings, step), padded, on_step)

    def run(self, key: Hashable, sample: Sample, batch: Batch, on_step: OnStep) -> Tensor:
        """Sample a batch. key: everything but the batch that its graph depends on.

        A replay calls `on_step` when it is launched.
        """
        key = (key, *((*part.shape, part.dtype) for part in batch.tensors()))
        self._seen[key] += 1
        if not self._works or self._seen[key] == 1:
            return sample(batch, on_step)
        if key not in self._captured and not self._record(key, sample, batch):
            return sample(batch, on_step)
        self._captured.move_to_end(key)
        found = self._captured[key]
        for static, value in zip(found.batch.tensors(), batch.tensors(), strict=True):
            static.copy_(value)
        found.replay()
        for _ in range(found.steps):
            on_step()
        return found.result.clone()

    def _record(self, key: Hashable, sample: Sample, batch: Batch) -> bool:
        """Capture the sampling of a batch's shape; False, with a warning, if it cannot be captured."""
        steps: Counter[str] = Counter()
        try:
            replay, result = self._capture(lambda: sample(batch, lambda: steps.update(["step"])))
        except RuntimeError as error:
            self._works = False
            warnings.warn(f"sampling is not captured as CUDA graphs: {error}", stacklevel=2)
            return False
        while len(self._captured) >= KEPT:
            self._captured.popitem(last=False)
        self._captured[key] = _Captured(replay, batch, result, steps["step"])
        return True

    def __reduce__(self) -> tuple:
        return SamplingGraphs, (self._capture,)


_pools: list[tuple[int, int]] = []


def _pool() -> tuple[int, int]:
    """The memory that all graphs share: they run one after another, and results are copied out at once."""
    if not _pools:
        _pools.append(torch.cuda.graph_pool_handle())
    return _pools[0]
