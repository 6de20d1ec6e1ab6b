"""Motions longer than a model was trained on: overlapping windows that are denoised together and blended.

A composition is a sequence of segments, each with its prompt. The window of a segment reaches past the seams into its
neighbours. At every step all windows predict x0, and where two overlap, their predictions are averaged with weights
that shift from one to the other. Both windows see the same noisy frames, so they agree more with every step
(MultiDiffusion, Bar-Tal et al. 2023; DiffCollage, Zhang et al. 2023; for motion: Shafir et al. 2024). Features are
velocities and poses relative to the root, so an average of two of them does not depend on where the body is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adaqf_train.generators.diffusion import Predict

OVERLAP_SECONDS = 1.2  # of two windows; half of it on each side of the seam


@dataclass(frozen=True)
class Window:
    """Frames start to stop of a motion, of which `rise` overlap the window before and `fall` the next."""

    start: int
    stop: int
    rise: int
    fall: int

    def __len__(self) -> int:
        return self.stop - self.start

    def weights(self) -> Tensor:
        """Weights of the frames, (stop - start,); over a seam, those of the two windows add up to 1."""
        up, down = (torch.arange(1, n + 1) / (n + 1) for n in (self.rise, self.fall))
        weights = torch.ones(len(self))
        weights[: self.rise] *= up
        weights[len(self) - self.fall :] *= down.flip(0)
        return weights


def margin_frames(fps: float, unit_frames: int) -> int:
    """Frames by which a window reaches past a seam, whole units."""
    return max(1, round(OVERLAP_SECONDS / 2 * fps / unit_frames)) * unit_frames


def windows(segments: Sequence[int], margin: int) -> list[Window]:
    """The window of every segment of so many frames; one segment alone is one window without overlap."""
    seams = list(itertools.accumulate(segments, initial=0))
    reach = [0, *(min(margin, a, b) for a, b in itertools.pairwise(segments)), 0]
    return [
        Window(seams[i] - reach[i], seams[i + 1] + reach[i + 1], 2 * reach[i], 2 * reach[i + 1])
        for i in range(len(segments))
    ]


class Blended:
    """x0 of B long motions from the predictions for the W windows that they are made of."""

    def __init__(self, motions: Sequence[Sequence[Window]], device: torch.device) -> None:
        """motions: the windows of each motion. The attribute `mask`, (W, T_w), is True for real frames of a window."""
        flat = [(row, window) for row, own in enumerate(motions) for window in own]
        longest = max(len(window) for _, window in flat)
        self.frames = max(own[-1].stop for own in motions)
        self.mask = torch.zeros(len(flat), longest, dtype=torch.bool)
        self._weights = torch.zeros(len(flat), longest)
        self._index = torch.zeros(len(flat), longest, dtype=torch.long)  # into the frames of all motions, end to end
        for i, (row, window) in enumerate(flat):
            self.mask[i, : len(window)] = True
            self._weights[i, : len(window)] = window.weights()
            self._index[i, : len(window)] = row * self.frames + torch.arange(window.start, window.stop)
        total = torch.zeros(len(motions) * self.frames)
        total.index_add_(0, self._index.flatten(), self._weights.flatten())
        self._weights /= total.clamp(min=torch.finfo().tiny)[self._index]  # three windows meet over a short segment
        self.mask, self._weights, self._index = (part.to(device) for part in (self.mask, self._weights, self._index))

    def over(self, predict: Predict) -> Predict:
        """predict: for windows (W, T_w, D). Returns the same for whole motions (B, T, D)."""

        def blended(x: Tensor, t: Tensor) -> Tensor:
            frames = x.flatten(0, 1)
            x0 = predict(frames[self._index] * self.mask[..., None], t) * self._weights[..., None]
            return torch.zeros_like(frames).index_add_(0, self._index.flatten(), x0.flatten(0, 1)).view_as(x)

        return blended
