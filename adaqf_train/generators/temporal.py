"""From frames to latent frames at a quarter of the rate, and back: dilated convolutions over groups of four frames.

T2M-GPT's residual blocks, all at the latent rate. Groups of frames enter and leave through one linear layer instead of
two strided convolutions each way: this needs fewer layers at the full rate and learns in far fewer steps.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from adaqf_train.generators.shared import FRAMES_PER_LATENT

GROWTH = 3  # factor of the dilation from one residual block to the next; T2M-GPT's


def latent_mask(mask: Tensor) -> Tensor:
    """The real latent frames (B, T / 4) of a mask (B, T), True = real. Lengths are multiples of 4."""
    return mask[:, ::FRAMES_PER_LATENT]


class ResidualBlock(nn.Module):
    """A dilated and a pointwise convolution beside a shortcut; padding never reaches the clip."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.across = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.within = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """(B, width, N), real (B, 1, N) -> (B, width, N)."""
        return x + self.within(relu(self.across(relu(x) * real)))


class Blocks(nn.Module):
    """Residual blocks with growing dilation over a sequence."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width, GROWTH**i) for i in range(depth))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, N, width), mask (B, N) True = real -> (B, N, width)."""
        x, real = x.transpose(1, 2), mask[:, None].to(x.dtype)
        for block in self.blocks:
            x = block(x, real)
        return relu(x).transpose(1, 2)


class TemporalEncoder(nn.Module):
    """Frames to latent frames."""

    def __init__(self, features: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.frames_in = nn.Linear(FRAMES_PER_LATENT * features, width)
        self.blocks = Blocks(width, depth)
        self.out = nn.Linear(width, outputs)

    def forward(self, motion: Tensor, mask: Tensor) -> Tensor:
        """(B, T, features), mask (B, T) True = real -> (B, T / 4, outputs), zero beyond a clip. T: a multiple of 4."""
        B, T, D = motion.shape  # clips, frames, features
        groups = motion.reshape(B, T // FRAMES_PER_LATENT, FRAMES_PER_LATENT * D)
        real = latent_mask(mask)
        return self.out(self.blocks(self.frames_in(groups), real)) * real[..., None]


class TemporalDecoder(nn.Module):
    """Latent frames to frames."""

    def __init__(self, inputs: int, width: int, depth: int, features: int) -> None:
        super().__init__()
        self.latents_in = nn.Linear(inputs, width)
        self.blocks = Blocks(width, depth)
        self.out = nn.Linear(width, FRAMES_PER_LATENT * features)

    def forward(self, latents: Tensor, mask: Tensor) -> Tensor:
        """(B, N, inputs), mask (B, N) True = real -> (B, 4 N, features), zero beyond a clip."""
        groups = self.out(self.blocks(self.latents_in(latents), mask)) * mask[..., None]
        return groups.reshape(len(latents), FRAMES_PER_LATENT * latents.shape[1], -1)
