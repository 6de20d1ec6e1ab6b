"""Training batches as a pure function of the step.

Everything random about a sample (caption, crop, timestep, noise, text drop) is drawn from a generator seeded
with its global index, step · batch + position. So a batch is the same on any number of processes, a resumed run
sees what an uninterrupted one would, and no generator state has to be saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaqf_train.config import DiffusionConfig
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.data.layout import DataError


@dataclass(frozen=True)
class MotionBatch:
    """Clips padded to the longest of them, with the draws that belong to each."""

    keys: list[str]
    captions: list[str]
    motion: Tensor  # (B, T, D) normalised, zero beyond a clip's length
    mask: Tensor  # (B, T) bool, True = real frame
    timestep: Tensor  # (B,) long in [0, diffusion steps)
    noise: Tensor  # (B, T, D) standard normal
    keep_text: Tensor  # (B,) bool, False = train without text (classifier-free guidance)

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip (B,)."""
        return self.mask.sum(dim=-1)

    def to(self, device: torch.device) -> MotionBatch:
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> MotionBatch:
        """What DataLoader calls so that the copy to a GPU need not be waited for."""
        return self._with_tensors(Tensor.pin_memory)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> MotionBatch:
        values = (getattr(self, f.name) for f in fields(self))
        return MotionBatch(*(change(v) if isinstance(v, Tensor) else v for v in values))


class StepBatches(Dataset):
    """batches[step] is this process's share of the global batch of that training step.

    batch_size counts all processes. Each epoch visits the items in an order drawn from (seed, epoch); the
    incomplete last batch of an epoch is dropped, so no item comes twice in one batch.
    """

    def __init__(
        self,
        dataset: MotionDataset,
        batch_size: int,
        seed: int,
        *,
        diffusion: DiffusionConfig | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size > len(dataset):
            raise DataError(
                f"{dataset.folder}: the {dataset.split} split has {len(dataset)} items, fewer than a batch of "
                f"{batch_size}. Lower it with --set (training.batch, extractors.batch, …)."
            )
        if batch_size % processes:
            raise DataError(
                f"A batch of {batch_size} cannot be divided over {processes} processes. Change the batch size."
            )
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.diffusion = diffusion or DiffusionConfig()
        self.process, self.processes = process, processes

    def __getitem__(self, step: int) -> MotionBatch:
        per_epoch = len(self.dataset) // self.batch_size
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.dataset))
        share = self.batch_size // self.processes
        first = self.process * share
        samples = []
        for i in range(first, first + share):
            item = self.dataset.items[order[position * self.batch_size + i]]
            samples.append(self._sample(item, np.random.default_rng([self.seed, 1, step * self.batch_size + i])))
        return _collate(samples)

    def from_step(self, start: int, stop: int, workers: int = 0) -> Iterator[MotionBatch]:
        """The batches of steps start..stop-1 in order, prepared by that many worker processes."""
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=range(start, stop),
                num_workers=workers,
                pin_memory=torch.cuda.is_available(),
            )
        )

    def _sample(self, item: Item, rng: np.random.Generator) -> dict:
        caption = item.captions[rng.integers(len(item.captions))]
        vectors = self.dataset.normalise(crop(item.vectors, self.dataset.config.unit_frames, rng))
        return {
            "key": item.key,
            "caption": caption,
            "motion": vectors,
            "timestep": int(rng.integers(self.diffusion.steps)),
            "keep_text": bool(rng.random() >= self.diffusion.text_drop),
            "noise": rng.standard_normal(vectors.shape, dtype=np.float32),
        }


def crop(vectors: np.ndarray, unit: int, rng: np.random.Generator) -> np.ndarray:
    """A random crop to whole units: two times in three as many as fit, else one fewer (T2M's loader). (N, D)."""
    units = len(vectors) // unit
    if rng.integers(3) == 0 and units > 1:
        units -= 1
    start = rng.integers(len(vectors) - units * unit + 1)
    return vectors[start : start + units * unit]


def pad(motions: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Stacks (T_i, D) arrays, zero-padded to the longest: (B, T, D) float32 and the mask (B, T), True = real."""
    lengths = torch.tensor([len(motion) for motion in motions])
    padded = torch.zeros(len(motions), int(lengths.max()), motions[0].shape[-1])
    for row, motion in zip(padded, motions, strict=True):
        row[: len(motion)] = torch.from_numpy(np.ascontiguousarray(motion))
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def _collate(samples: list[dict]) -> MotionBatch:
    motion, mask = pad([s["motion"] for s in samples])
    noise, _ = pad([s["noise"] for s in samples])
    return MotionBatch(
        keys=[s["key"] for s in samples],
        captions=[s["caption"] for s in samples],
        motion=motion,
        mask=mask,
        timestep=torch.tensor([s["timestep"] for s in samples]),
        noise=noise,
        keep_text=torch.tensor([s["keep_text"] for s in samples]),
    )
