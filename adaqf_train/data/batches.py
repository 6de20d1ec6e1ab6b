"""Training batches as a pure function of the step.

Everything random about a sample (caption, crop, timestep, text drop, noise) is drawn from its global number,
step · batch + position. So a batch is the same on any number of processes, a resumed run reads what an uninterrupted
one would, and no generator state has to be saved.

Two things keep padding small, which is computed for nothing. Clips of like length meet in a batch (`bucket`): of
Bandai-Namco's clips in batches of 64 padding is 45 % of all frames without buckets, and 6 % with a bucket of 16. And
batches are padded to a few fixed sizes that are chosen from the data (`shapes`): few enough for kernels to be planned,
and steps captured, once for each.
"""

from __future__ import annotations

import operator
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from types import UnionType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from adaqf_train import philox
from adaqf_train.config import DiffusionConfig
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.errors import DataError

SECTIONS = 4  # at least, into which an epoch is divided for bucketing
DRAWN = 128  # batches whose sizes the shapes are chosen for
NOISE = 0  # stream of the diffusion's noise; objectives number further streams from 1
_NOISE_KEY = 2**63  # apart from the seeds that other draws use


@dataclass(frozen=True)
class MotionBatch:
    """Clips padded to one length, with the draws that belong to each."""

    keys: list[str]
    captions: list[str]
    motion: Tensor  # (B, T, D) normalised, zero beyond a clip's length
    mask: Tensor  # (B, T) bool, True = real frame
    timestep: Tensor  # (B,) long in [0, diffusion steps)
    keep_text: Tensor  # (B,) bool, False = train without text (classifier-free guidance)
    index: Tensor  # (B,) long, the number of each sample among all of the run
    seed: int  # of the noise
    caption: Tensor | None = None  # (B,) long, rows of the caption table
    flipped: Tensor | None = None  # (B,) long, rows of flipped captions; -1 where a caption has none
    tokens: int = 0  # that captions are padded to

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip (B,)."""
        return self.mask.sum(dim=-1)

    @property
    def noise(self) -> Tensor:
        """The diffusion's noise (B, T, D), standard normal."""
        return self.normal(NOISE, self.motion.shape[1:])

    def normal(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise (B, *shape) of a stream, drawn for each sample by itself."""
        return philox.normal(self.seed, self.index, tuple(shape), stream=stream)

    def uniform(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        """Numbers (B, *shape) in (0, 1) of a stream, drawn for each sample by itself."""
        return philox.uniform(self.seed, self.index, tuple(shape), stream=stream)

    def parts(self, number: int) -> list[MotionBatch]:
        """The batch in that many parts of equal size, in order."""
        if number == 1:
            return [self]
        size = len(self.keys) // number
        rows = (slice(start, start + size) for start in range(0, size * number, size))
        return [self.map(operator.itemgetter(part), Tensor | list) for part in rows]

    def to(self, device: torch.device) -> MotionBatch:
        """The batch on a device, without waiting for the copy."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> MotionBatch:
        """The batch in pinned memory (DataLoader calls this), from where copies to a GPU need no waiting."""
        return self.map(Tensor.pin_memory)

    def map(self, change: Callable, kinds: type | UnionType = Tensor) -> MotionBatch:
        """The batch with every tensor, or every field of those kinds, changed."""
        values = (getattr(self, f.name) for f in fields(self))
        return MotionBatch(*(change(v) if isinstance(v, kinds) else v for v in values))


class StepBatches(Dataset):
    """batches[step] is this process's share of the global batch of that training step.

    Each epoch visits the items in an order drawn from (seed, epoch). The incomplete last batch of an epoch is dropped,
    so that no item comes twice in one batch.
    """

    def __init__(
        self,
        dataset: MotionDataset,
        batch_size: int,
        seed: int,
        *,
        captions: CaptionTable | None = None,
        diffusion: DiffusionConfig | None = None,
        process: int = 0,
        processes: int = 1,
        bucket: int = 1,
        shapes: int | None = None,
    ) -> None:
        """Prepare the sizes that batches are padded to.

        batch_size: samples in a step, over all processes. captions: table that batches refer to. diffusion: range of
        the timesteps, and how often text is dropped. process: number of this process among those that share a batch.
        bucket: that many batches in a row are sorted by length among themselves and then shuffled; 1: no sorting.
        shapes: at most that many different sizes (frames times tokens) of a batch; None: each batch is padded to its
        own longest clip and caption.
        """
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
        self.captions, self.diffusion = captions, diffusion or DiffusionConfig()
        self.process, self.processes, self.bucket = process, processes, bucket
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))  # of the epoch that was asked for last
        self.shapes = self._shapes(shapes) if shapes is not None else []  # (frames, tokens), the smallest first

    def __getitem__(self, step: int) -> MotionBatch:
        share = self.batch_size // self.processes
        first = step * self.batch_size + self.process * share
        return self._collate([self._sample(index) for index in range(first, first + share)])

    def from_step(self, start: int, stop: int, workers: int = 0) -> Iterator[MotionBatch]:
        """The batches of steps start..stop-1 in order, prepared by that many worker processes."""
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=range(start, stop),
                num_workers=workers,
                worker_init_fn=_ignore_sigterm,
                pin_memory=torch.cuda.is_available(),
            )
        )

    def order(self, epoch: int) -> np.ndarray:
        """Rows of the data set in the order of an epoch; those beyond the last whole batch are not visited."""
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
        # Rows are shuffled within a batch as well: processes divide them, and none should wait for the others.
        return np.concatenate([*rng.permuted(batches, axis=1), order[whole:]])

    def _shapes(self, count: int) -> list[tuple[int, int]]:
        """Frames and tokens that batches are padded to: at most `count` pairs, which pad the first batches least."""
        unit = self.dataset.config.unit_frames
        longest = max(len(item.vectors) for item in self.dataset.items) // unit * unit
        most = 0 if self.captions is None else int(self.captions.lengths.max())
        batches = ([self._sample(step * self.batch_size + i) for i in range(self.batch_size)] for step in range(DRAWN))
        return best_shapes([*map(self._needed, batches), (longest, most)], count)

    def _needed(self, samples: Sequence[_Sample]) -> tuple[int, int]:
        """Frames and tokens of the longest clip and caption; no tokens without a table of captions."""
        frames = max(len(sample.vectors) for sample in samples)
        if self.captions is None:
            return frames, 0
        return frames, max(int(self.captions.lengths[sample.caption_rows].max()) for sample in samples)

    def _sample(self, index: int) -> _Sample:
        per_epoch = len(self.dataset) // self.batch_size
        epoch, position = divmod(index, per_epoch * self.batch_size)
        item: Item = self.dataset.items[self.order(epoch)[position]]
        rng = np.random.default_rng([self.seed, 1, index])
        caption = item.captions[rng.integers(len(item.captions))]
        vectors = crop(item.vectors, self.dataset.config.unit_frames, rng)
        timestep, keep_text = int(rng.integers(self.diffusion.steps)), bool(rng.random() >= self.diffusion.text_drop)
        if self.diffusion.noisy_share and rng.random() < self.diffusion.noisy_share:
            timestep = int(rng.integers(self.diffusion.steps * 4 // 5, self.diffusion.steps))
        row, flipped = -1, -1
        if self.captions is not None:
            row, others = self.captions.row[caption], self.captions.flipped.get(caption)
            flipped = int(rng.choice(others)) if others else -1
        return _Sample(index, item.key, caption, vectors, timestep, keep_text, row, flipped)

    def _collate(self, samples: list[_Sample]) -> MotionBatch:
        lengths, needed = [len(sample.vectors) for sample in samples], self._needed(samples)
        fitting = (shape for shape in self.shapes if shape[0] >= needed[0] and shape[1] >= needed[1])
        frames, tokens = next(fitting, needed)
        motion = torch.zeros(len(samples), frames, self.dataset.features)
        for row, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            self.dataset.normalise(sample.vectors, out=motion[row, :length].numpy())
        batch = MotionBatch(
            keys=[sample.key for sample in samples],
            captions=[sample.caption for sample in samples],
            motion=motion,
            mask=torch.arange(frames)[None] < torch.tensor(lengths)[:, None],
            timestep=torch.tensor([sample.timestep for sample in samples]),
            keep_text=torch.tensor([sample.keep_text for sample in samples]),
            index=torch.tensor([sample.index for sample in samples]),
            seed=self.seed + _NOISE_KEY,
        )
        if self.captions is None:
            return batch
        return replace(
            batch,
            caption=torch.tensor([sample.row for sample in samples]),
            flipped=torch.tensor([sample.flipped for sample in samples]),
            tokens=tokens,
        )


def best_shapes(needed: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """At most `count` shapes (frames, tokens) that cover all needed ones and pad little, the smallest first.

    The two shapes whose union pads least are merged until few enough are left. A token counts as much as a frame: the
    text encoder takes about as long for one as denoiser and feedback take for the other.
    """
    shapes, times = np.unique(np.asarray(needed), axis=0, return_counts=True)
    while len(shapes) > count:
        union = np.maximum(shapes[:, None], shapes)  # (N, N, 2)
        added = (union.sum(axis=-1) - shapes.sum(axis=-1)) * times  # [i, j]: by what that pads the batches of shape j
        added = (added + added.T).astype(float)
        np.fill_diagonal(added, np.inf)
        first, second = np.unravel_index(added.argmin(), added.shape)
        shapes[first], times[first] = union[first, second], times[first] + times[second]
        shapes, times = np.delete(shapes, second, axis=0), np.delete(times, second)
    return [(int(frames), int(tokens)) for frames, tokens in sorted(shapes.tolist(), key=sum)]


def _ignore_sigterm(worker: int) -> None:
    """A scheduler sends SIGTERM to all processes of a job; those that prepare batches must outlive the training."""
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
    row: int  # of the caption in the table
    flipped: int  # row of a flipped caption, or -1

    @property
    def caption_rows(self) -> list[int]:
        return [row for row in (self.row, self.flipped) if row >= 0]


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
