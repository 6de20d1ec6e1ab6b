"""Pieces that several networks share."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention


def sinusoidal_table(positions: int, width: int) -> Tensor:
    """Vaswani et al.'s position codes, (positions, width); width even."""
    angle = torch.arange(positions)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class PositionCodes(nn.Module):
    """Adds position codes to (B, T, width), then dropout, as MDM does. Any length: the table grows when needed."""

    def __init__(self, width: int, dropout: float, positions: int = 256) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", sinusoidal_table(positions, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > len(self.table):
            self.table = sinusoidal_table(x.shape[1], x.shape[2]).to(self.table)
        return self.dropout(x + self.table[: x.shape[1]])


class Decoder(nn.Module):
    """Transformer decoder layers (MDM's trans_dec), with the weights and names of `nn.TransformerDecoder`.

    torch's own module cannot be compiled layer by layer, and casts and splits more than is needed.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, layers: int) -> None:
        super().__init__()
        layer = DecoderLayer(width, heads, feedforward, dropout, activation="gelu", batch_first=True)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(layers))  # all start equal, as torch's do

    def forward(
        self, x: Tensor, memory: Tensor, real: Tensor, visible: Tensor | None, seen: list[Tensor] | None = None
    ) -> Tensor:
        """Decode x (B, T, width), real (B, T), with attention to memory (B, M, width), visible (B, M) or None: all.

        seen: a list to which the output of every layer is appended.
        """
        for layer in self.layers:
            x = layer(x, memory, real, visible)
            if seen is not None:
                seen.append(x)
        return x


class DecoderLayer(nn.TransformerDecoderLayer):
    """Self-attention, attention to the memory, feedforward; each with dropout, residual and norm after it."""

    def forward(self, x: Tensor, memory: Tensor, real: Tensor, visible: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout1(attend(self.self_attn, x, x, real)))
        x = self.norm2(x + self.dropout2(attend(self.multihead_attn, x, memory, visible)))
        return self.norm3(x + self._ff_block(x))


def attend(attention: nn.MultiheadAttention, queries: Tensor, context: Tensor, visible: Tensor | None) -> Tensor:
    """Multi-head attention of queries (B, T, width) over context (B, S, width), with the weights of torch's module.

    The context of self-attention is the same tensor. visible: (B, S), True at least once in each row; None: all are.
    """
    width, weight, bias = attention.embed_dim, attention.in_proj_weight, attention.in_proj_bias
    if queries is context:
        projected = linear(queries, weight, bias).chunk(3, dim=-1)
    else:
        keys = linear(context, weight[width:], bias[width:]).chunk(2, dim=-1)
        projected = linear(queries, weight[:width], bias[:width]), *keys
    heads = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected)
    mask = None if visible is None else visible[:, None, None]
    dropout = attention.dropout if attention.training else 0.0
    attended = scaled_dot_product_attention(*heads, attn_mask=mask, dropout_p=dropout)
    return attention.out_proj(attended.transpose(1, 2).flatten(2))


class FrameTokens(nn.Module):
    """Converts features to tokens and back, one token for a group of frames.

    With one frame a token these are MDM's linear layers. A token of several frames also reads and writes half of each
    neighbour's frames, because motions assembled from separate pieces jump at every seam.
    """

    def __init__(self, features: int, width: int, group: int) -> None:
        """group: frames of a token, 1 or even."""
        super().__init__()
        self.group = group
        if group == 1:
            self.frames_in, self.frames_out = nn.Linear(features, width), nn.Linear(width, features)
        else:
            windows = {"kernel_size": 2 * group, "stride": group, "padding": group // 2}
            self.frames_in = nn.Conv1d(features, width, **windows)
            self.frames_out = nn.ConvTranspose1d(width, features, **windows)

    def real(self, mask: Tensor) -> Tensor:
        """Which tokens are real: those whose first frame is. (B, T) -> (B, T / group)."""
        return mask[:, :: self.group]

    def join(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(B, T, features), mask (B, T) True = real -> (B, T / group, width)."""
        if self.group == 1:
            return self.frames_in(frames)
        return _convolved(self.frames_in, frames * mask[..., None])

    def part(self, tokens: Tensor, real: Tensor) -> Tensor:
        """(B, T / group, width), real (B, T / group) -> (B, T, features)."""
        if self.group == 1:
            return self.frames_out(tokens)
        return _convolved(self.frames_out, tokens * real[..., None])


@torch.compiler.disable  # torch's compiler fails on strided convolutions over clips of any length
def _convolved(convolution: nn.Module, x: Tensor) -> Tensor:
    return convolution(x.transpose(1, 2)).transpose(1, 2)


class Smoothing(nn.Module):
    """A Gaussian mean over the frames around each frame of a clip, of its real frames alone."""

    def __init__(self, deviation: float) -> None:
        """deviation: of the Gaussian, in frames."""
        super().__init__()
        self.reach = math.ceil(3 * deviation)
        weights = [math.exp(-((offset / deviation) ** 2) / 2) for offset in range(-self.reach, self.reach + 1)]
        self.weights = [weight / sum(weights) for weight in weights]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D), mask (B, T) True = real -> (B, T, D), zero beyond a clip."""
        real = mask[..., None].to(x.dtype)
        # A real frame is among those that it averages, so only padding has too little weight.
        return self._around(x * real) / self._around(real).clamp(min=self.weights[self.reach]) * real

    def _around(self, x: Tensor) -> Tensor:
        """Weighted sums of the frames around each frame of (B, T, D)."""
        padded = pad(x, (0, 0, self.reach, self.reach))
        return sum(weight * padded[:, at : at + x.shape[1]] for at, weight in enumerate(self.weights))


class BiGRU(nn.Module):
    """Summarises sequences by the last states of a bidirectional GRU with a learnt first state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True, bidirectional=True)
        self.start = nn.Parameter(torch.randn(2, 1, hidden))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Read (B, T, inputs) with lengths (B,) >= 1 into (B, 2 * hidden)."""
        return last_states(self.gru, x, lengths, self.start)


def last_states(gru: nn.GRU, x: Tensor, lengths: Tensor, start: Tensor) -> Tensor:
    """Compute what a bidirectional GRU of one layer leaves after each sequence (forward, then backward), unpacked.

    Packing would copy the lengths to the host, and wait for them. Instead, the backward direction reads each sequence
    reversed within its length, and the states at the lengths are gathered. x: (B, T, inputs), whose values beyond the
    lengths (B,) >= 1 do not matter; start: (2, 1, hidden), first state of each direction. Returns (B, 2 * hidden).
    """
    lengths = lengths.to(x.device)
    positions = torch.arange(x.shape[1], device=x.device)
    reversed_positions = (lengths[:, None] - 1 - positions).clamp(min=0)
    sequences = x, x.gather(1, reversed_positions[..., None].expand_as(x))
    last = (lengths - 1)[:, None, None].expand(-1, 1, gru.hidden_size)

    def read(direction: int) -> Tensor:
        suffix = ("", "_reverse")[direction]
        weights = [getattr(gru, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        first = start[direction : direction + 1].expand(-1, len(x), -1).to(x.dtype).contiguous()
        # Autocast runs GRUs in float16, whatever its own type: gradients are scaled so that none underflows.
        inputs, first, *weights = (scale_gradient(part, 1 / SCALE) for part in (sequences[direction], first, *weights))
        output, _ = torch.gru(inputs, first, weights, True, 1, 0.0, gru.training, False, True)
        return scale_gradient(output, SCALE).gather(1, last)[:, 0]

    return torch.cat([read(0), read(1)], dim=-1)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, x: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The same tensor, whose gradient is multiplied by a factor; only where autocast on a GPU can make it underflow."""
    return _ScaleGradient.apply(x, factor) if x.is_cuda and torch.is_autocast_enabled("cuda") else x


SCALE = 1024.0  # a power of two, so that scaling rounds nothing


def projection_head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """T2M's output head: Linear, LayerNorm, LeakyReLU, Linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.2, inplace=True), nn.Linear(hidden, outputs)
    )


def freeze(module: nn.Module) -> nn.Module:
    """No gradients into the module, no dropout inside, and gradients still flow through its input.

    GRUs stay in training mode: cuDNN refuses their backward pass in eval mode, and they have no dropout.
    """
    module.requires_grad_(False).eval()
    for part in module.modules():
        if isinstance(part, nn.GRU):
            part.train()
    return module
