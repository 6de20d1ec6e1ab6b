"""Noise from a counter: each value is a function of (seed, stream, item, step, position) alone.

Implements Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). A value depends neither on
the batch that an item is in nor on the device, except for the last bits of the logarithm and the cosine, which CPUs and
GPUs round differently. On a CPU numpy's generator of the same name computes the integers.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # what the key grows by from round to round
WORDS = 4  # 64-bit numbers of a block
_LOW = 0xFFFFFFFF
_MANTISSA = 0xFFFFFF  # 24 bits, which a float32 holds exactly


def normal(seed: int, items: Tensor, shape: tuple[int, ...], *, stream: int = 0, step: int | Tensor = 0) -> Tensor:
    """Draw standard normal noise (B, *shape), float32, for items (B,) long, on their device (Box-Muller).

    seed: below 2^64. Equal items draw equal noise, and a longer first dimension of `shape` only appends values. stream
    separates draws of different meaning, step the steps of a sampler.
    """
    count = math.prod(shape)
    first, second = _pairs(seed, items, -(-count // 2), stream, step)
    radius, angle = first.log().mul(-2).sqrt(), second.mul(2 * torch.pi)
    if items.device.type == "cpu":  # twice as fast as stacking, in place
        drawn = torch.empty(*radius.shape, 2)
        torch.mul(radius, angle.cos(), out=drawn[..., 0])
        torch.mul(radius, angle.sin(), out=drawn[..., 1])
    else:
        drawn = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return drawn.flatten(1)[:, :count].reshape(len(items), *shape)


def uniform(seed: int, items: Tensor, shape: tuple[int, ...], *, stream: int = 0, step: int = 0) -> Tensor:
    """Draw numbers from the open interval (0, 1) for each item; arguments and result are those of `normal`."""
    count = math.prod(shape)
    drawn = torch.stack(_pairs(seed, items, -(-count // 2), stream, step), dim=-1)
    return drawn.flatten(1)[:, :count].reshape(len(items), *shape)


def _pairs(seed: int, items: Tensor, count: int, stream: int, step: int | Tensor) -> tuple[Tensor, Tensor]:
    """Two times (B, count) float32 in (0, 1): from the low and from the high half of each 64-bit word."""
    if items.device.type == "cpu":
        drawn = torch.from_numpy(numpy_words(seed, stream, items.tolist(), int(step), count))
    else:
        drawn = words(signed(seed), stream, items, step, -(-count // WORDS))[:, :count]
    numbers = (((drawn >> shift & _MANTISSA).float() + 0.5) * 2.0**-24 for shift in (8, 40))
    return tuple(number.clamp(max=1 - 2.0**-24) for number in numbers)  # the largest number would round to 1


def numpy_words(seed: int, stream: int, items: Sequence[int], step: int, count: int) -> np.ndarray:
    """(items, count) int64: the first words of each item."""
    key, drawn = np.array([seed, stream], np.uint64), np.empty((len(items), count), np.uint64)
    for row, item in zip(drawn, items, strict=True):
        # numpy counts before it computes, so that an item's first block has counter 1.
        row[:] = np.random.Philox(key=key, counter=np.array([0, item, step, 0], np.uint64)).random_raw(count)
    return drawn.view(np.int64)


def words(seed: int, stream: int, items: Tensor, step: int | Tensor, blocks: int) -> Tensor:
    """Compute blocks of four words for items (B,) with tensor operations: (B, blocks * 4), numpy's bits in int64."""
    counter = torch.arange(1, blocks + 1, device=items.device).repeat(len(items), 1)
    state = [counter, items[:, None].expand_as(counter), torch.zeros_like(counter) + step, torch.zeros_like(counter)]
    mix = _compiled_rounds() if items.is_cuda and importlib.util.find_spec("triton") else rounds
    return torch.stack(mix(state, [counter.new_full((), seed), counter.new_full((), stream)]), dim=-1).flatten(1)


def rounds(state: list[Tensor], keys: list[Tensor]) -> list[Tensor]:
    """Apply Philox's ten rounds to four counter words under two key words, all as signed 64-bit integers."""
    for _ in range(ROUNDS):
        high0, low0 = _product(MULTIPLIERS[0], state[0])
        high1, low1 = _product(MULTIPLIERS[1], state[2])
        state = [high1 ^ state[1] ^ keys[0], low1, high0 ^ state[3] ^ keys[1], low0]
        keys = [key + signed(growth) for key, growth in zip(keys, WEYL, strict=True)]
    return state


@cache
def _compiled_rounds() -> Callable[[list[Tensor], list[Tensor]], list[Tensor]]:
    """One kernel in place of five hundred; made at its first use, because torch's compiler takes seconds to load."""
    return torch.compile(rounds, dynamic=True)


def _product(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of an unsigned product, in signed integers that wrap around."""
    a0, a1 = constant & _LOW, constant >> 32
    b0, b1 = word & _LOW, (word >> 32) & _LOW
    one, other = a0 * b1, a1 * b0
    middle = ((a0 * b0 >> 32) & _LOW) + (one & _LOW) + (other & _LOW)
    high = a1 * b1 + ((one >> 32) & _LOW) + ((other >> 32) & _LOW) + ((middle >> 32) & _LOW)
    return high, word * signed(constant)


def signed(word: int) -> int:
    """The signed 64-bit integer with the same bits."""
    return word - 2**64 if word >= 2**63 else word
