"""Training batches as a pure function of the step.

Everything random about a sample (caption, crop, timestep, text drop, noise) is drawn from generators seeded
with its global index, step · batch + position. So a batch is the same on any number of processes, a resumed run
sees what an uninterrupted one would, and no generator state has to be saved.

Batches may be made of clips of like length (bucket), for padding is computed for nothing: of Bandai-Namco's clips in
batches of 64 it is 45 % of all frames, and 6 % with a bucket of 16. Only which clips meet in a batch depends on it.

Noise is four fifths of the work if numpy draws it. Torch's generator is three times as fast, and what is drawn is
written straight to its place in the padded batch.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaqf_train import seeding
from adaqf_train.config import DiffusionConfig
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.errors import DataError

SECTIONS = 4  # at least, into which an epoch is divided for bucketing


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
    frames: list[int] | None = None  # real ones of each clip, for who must know without waiting for a GPU's mask

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip (B,)."""
        return self.mask.sum(dim=-1)

    def parts(self, number: int) -> list[MotionBatch]:
        """The batch in that many parts of equal size, in order. For batches that are still on the host."""
        if number == 1:
            return [self]
        size = len(self.keys) // number
        return [self._rows(slice(start, start + size)) for start in range(0, size * number, size)]

    def to(self, device: torch.device) -> MotionBatch:
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> MotionBatch:
        """What DataLoader calls so that the copy to a GPU need not be waited for."""
        return self._with_tensors(Tensor.pin_memory)

    def _rows(self, rows: slice) -> MotionBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        part = MotionBatch(**{name: value if value is None else value[rows] for name, value in values.items()})
        longest = int(part.lengths.max())
        cut = {name: getattr(part, name)[:, :longest] for name in ("motion", "mask", "noise")}
        return replace(part, **cut)

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> MotionBatch:
        values = (getattr(self, f.name) for f in fields(self))
        return MotionBatch(*(change(v) if isinstance(v, Tensor) else v for v in values))


class StepBatches(Dataset):
    """batches[step] is this process's share of the global batch of that training step.

    batch_size counts all processes. Each epoch visits the items in an order drawn from (seed, epoch); the
    incomplete last batch of an epoch is dropped, so no item comes twice in one batch. bucket: that many batches in
    a row are sorted by length among themselves, then they come in any order; 1 leaves every batch to chance.
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
        bucket: int = 1,
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
        self.process, self.processes, self.bucket = process, processes, bucket
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))  # of the epoch that was asked for last
        self._noise_seed = seeding.mix(seed, 2)

    def __getitem__(self, step: int) -> MotionBatch:
        per_epoch = len(self.dataset) // self.batch_size
        epoch, position = divmod(step, per_epoch)
        order = self.order(epoch)
        share = self.batch_size // self.processes
        first = self.process * share
        samples = []
        for i in range(first, first + share):
            item = self.dataset.items[order[position * self.batch_size + i]]
            samples.append(self._sample(item, step * self.batch_size + i))
        return self._collate(samples)

    def from_step(self, start: int, stop: int, workers: int = 0) -> Iterator[MotionBatch]:
        """The batches of steps start..stop-1 in order, prepared by that many worker processes."""
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=range(start, stop),
                num_workers=workers,
                worker_init_fn=_outlive_the_signal,
                pin_memory=torch.cuda.is_available(),
            )
        )

    def order(self, epoch: int) -> np.ndarray:
        """Rows of the data set in the order in which an epoch visits them; those beyond the last whole batch wait."""
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 0, epoch])
            order = rng.permutation(len(self.dataset))
            self._order = epoch, order if self.bucket == 1 else self._of_like_length(order, rng)
        return self._order[1]

    def _of_like_length(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same items, so that those of a batch have about the same length; what is left over comes last."""
        whole = len(order) // self.batch_size * self.batch_size  # the rest is dropped: it must not be the longest
        lengths = np.array([len(item.vectors) for item in self.dataset.items])
        # A section that is most of the data would let the same clips meet in every epoch.
        section = max(1, min(self.bucket, whole // self.batch_size // SECTIONS)) * self.batch_size
        sections = [order[start : min(start + section, whole)] for start in range(0, whole, section)]
        ordered = np.concatenate([rows[np.argsort(lengths[rows], kind="stable")] for rows in sections])
        batches = rng.permutation(ordered.reshape(-1, self.batch_size))
        # Within a batch as well: its rows are divided over the processes, none of which should wait for the others.
        return np.concatenate([*rng.permuted(batches, axis=1), order[whole:]])

    def _sample(self, item: Item, index: int) -> _Sample:
        rng = np.random.default_rng([self.seed, 1, index])
        return _Sample(
            index,
            item.key,
            caption=item.captions[rng.integers(len(item.captions))],
            vectors=crop(item.vectors, self.dataset.config.unit_frames, rng),
            timestep=int(rng.integers(self.diffusion.steps)),
            keep_text=bool(rng.random() >= self.diffusion.text_drop),
        )

    def _collate(self, samples: list[_Sample]) -> MotionBatch:
        lengths = [len(sample.vectors) for sample in samples]
        motion = torch.empty(len(samples), max(lengths), self.dataset.features)
        noise = torch.empty_like(motion)
        for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            self.dataset.normalise(sample.vectors, out=motion[row, :length].numpy())
            noise[row, :length].normal_(generator=self._generator(sample.index))
            motion[row, length:] = 0
            noise[row, length:] = 0
        return MotionBatch(
            keys=[sample.key for sample in samples],
            captions=[sample.caption for sample in samples],
            motion=motion,
            mask=torch.arange(motion.shape[1])[None] < torch.tensor(lengths)[:, None],
            timestep=torch.tensor([sample.timestep for sample in samples]),
            noise=noise,
            keep_text=torch.tensor([sample.keep_text for sample in samples]),
            frames=lengths,
        )

    def _generator(self, index: int) -> torch.Generator:
        # Torch's CPU generator takes 32 bits of a seed, and drawing those at random would repeat some among millions
        # of samples. Numbering them and then shuffling the numbers (murmur3's finaliser, a bijection) repeats none.
        seed = (index + self._noise_seed) & 0xFFFFFFFF
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            seed = (seed ^ seed >> shift) * factor & 0xFFFFFFFF
        return torch.Generator().manual_seed(seed ^ seed >> 16)


def _outlive_the_signal(worker: int) -> None:
    """A scheduler tells all processes of a job to end: those that prepare batches must not, before training has."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@dataclass(frozen=True)
class _Sample:
    """A clip with what was drawn for it."""

    index: int  # among all samples of the run
    key: str
    caption: str
    vectors: np.ndarray  # (N, D), cropped, not normalised
    timestep: int
    keep_text: bool


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
    for row, motion in zip(padded.numpy(), motions, strict=True):
        row[: len(motion)] = motion
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]
