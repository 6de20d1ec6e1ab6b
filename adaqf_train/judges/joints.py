"""The second independent evaluator: convolutions over decoded joints and over words.

It shares nothing with the extractors (GRUs over features) and the first evaluator (transformers over features): it
reads positions, velocities and contacts of the joints that the features decode to, so features that are inconsistent,
such as velocities that contradict positions, cannot please it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from adaqf_train.config import JointEvaluatorConfig
from adaqf_train.judges.base import Judge
from adaqf_train.motion.features import decode
from adaqf_train.motion.skeleton import Skeleton, skeleton_of_width

FRAMES_PER_STEP = 4
CONTACT_SPEED = 0.5  # metres per second; a slower ankle or toe is in contact if it is also low
CONTACT_HEIGHT = 0.1  # metres above the floor


class ConvTower(nn.Module):
    """Dilated convolutions over a sequence, and the means and maxima of what they find."""

    def __init__(self, config: JointEvaluatorConfig) -> None:
        super().__init__()
        width = config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=2**layer, dilation=2**layer) for layer in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Sequential(nn.LayerNorm(2 * width), nn.Linear(2 * width, config.embedding))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width), mask (B, T) True = real -> (B, embedding). Padding is set to zero before each convolution."""
        real = mask[..., None]
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            found = convolution((norm(x) * real).transpose(1, 2)).transpose(1, 2)
            x = x + self.dropout(gelu(found))
        mean = (x * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        most = x.masked_fill(~real, torch.finfo(x.dtype).min).amax(dim=1)
        return self.head(torch.cat([mean, most], dim=-1))


class JointMatcher(Judge):
    """The second evaluator. Embeddings have length sqrt(E), as the first one's."""

    def __init__(self, mean: np.ndarray, std: np.ndarray, vocabulary: int, config: JointEvaluatorConfig) -> None:
        """mean, std: (D,) of the features that it reads normalised, and decodes."""
        super().__init__()
        self.config, self.width, self.scale = config, config.embedding, math.sqrt(config.embedding)
        self.skeleton: Skeleton = skeleton_of_width(len(mean))
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.from_numpy(np.array(values, dtype=np.float32)))
        inputs = 6 * len(self.skeleton) + len(self.skeleton.feet)
        self.frames_in = nn.Linear(FRAMES_PER_STEP * inputs, config.width)
        self.words = nn.Embedding(vocabulary, config.width)
        self.motion_tower, self.text_tower = ConvTower(config), ConvTower(config)

    def embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.scale * normalize(self.text_tower(self.words(ids), mask), dim=-1)

    def embed_motion(self, motion: Tensor, mask: Tensor) -> Tensor:
        """Embed normalised features (B, T, D) with mask (B, T) into (B, E); T is a multiple of 4."""
        B, T, _ = motion.shape
        frames = self.view(motion) * mask[..., None]
        steps = self.frames_in(frames.reshape(B, T // FRAMES_PER_STEP, -1))
        return self.scale * normalize(self.motion_tower(steps, mask[:, ::FRAMES_PER_STEP]), dim=-1)

    def view(self, motion: Tensor) -> Tensor:
        """What a frame looks like: (B, T, D) -> (B, T, 6 J + 4), metres and metres per second.

        Positions relative to the root along the floor; velocities from the frame before; contacts of ankles and toes.
        Values of a frame depend on frames before it alone, so padding after a clip does not matter.
        """
        joints = decode(motion.float() * self.std + self.mean) / self.skeleton.units_per_metre
        steps = torch.diff(joints, dim=1, prepend=joints[:, :1]) * self.skeleton.fps
        feet, speeds = joints[:, :, list(self.skeleton.feet), 1], steps[:, :, list(self.skeleton.feet)].norm(dim=-1)
        contacts = ((speeds < CONTACT_SPEED) & (feet < CONTACT_HEIGHT)).to(joints)
        places = joints - joints[:, :, :1] * joints.new_tensor([1.0, 0.0, 1.0])
        return torch.cat([places.flatten(2), steps.flatten(2), contacts], dim=-1)
