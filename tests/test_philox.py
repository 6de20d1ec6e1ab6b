"""Noise from a counter: the published vectors, any device's integers, and a standard normal distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train import philox

# philox4x64-10 in Random123's kat_vectors: counter, key -> output.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_rounds_give_the_published_vectors(counter, key, expected):
    state = [torch.tensor([philox.signed(word)]) for word in counter]
    found = philox.rounds(state, [torch.tensor(philox.signed(word)) for word in key])
    assert [int(word) % 2**64 for word in found] == list(expected)


@pytest.mark.parametrize(("seed", "stream", "step"), [(0, 0, 0), (2**63 + 12345, 7, 9), (123, 1, 2**33)])
def test_words_on_any_device_are_those_of_the_cpu(seed, stream, step):
    items = torch.tensor([0, 5, 2**40 + 3])
    expected = philox.numpy_words(seed, stream, items.tolist(), step, 200)
    assert np.array_equal(philox.words(philox.signed(seed), stream, items, step, 50).numpy(), expected)


def test_normal_is_standard_and_independent():
    drawn = philox.normal(3, torch.arange(2000), (1001,))
    assert drawn.mean().item() == pytest.approx(0, abs=0.003)
    assert drawn.std().item() == pytest.approx(1, abs=0.003)
    assert (drawn**4).mean().item() == pytest.approx(3, abs=0.03)
    assert (drawn.abs() > 3).float().mean().item() == pytest.approx(0.0027, abs=0.0002)
    for a, b in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])):
        assert abs((a * b).mean().item()) < 0.005


def test_draws_depend_on_seed_stream_item_and_step_alone():
    items = torch.tensor([4, 9])
    drawn = philox.normal(1, items, (6, 5))
    assert torch.equal(philox.normal(1, items[1:], (6, 5)), drawn[1:])
    assert torch.equal(philox.normal(1, items, (11, 5))[:, :6], drawn)  # a longer clip only appends
    others = [philox.normal(2, items, (6, 5)), philox.normal(1, items + 1, (6, 5))]
    others += [philox.normal(1, items, (6, 5), stream=1), philox.normal(1, items, (6, 5), step=1)]
    for other in others:
        assert (other - drawn).abs().max() > 0.5


def test_uniform_lies_in_the_open_interval():
    drawn = philox.uniform(0, torch.arange(1000), (1000,))
    assert 0 < drawn.min() < 1e-5
    assert 1 - 1e-5 < drawn.max() < 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.001)


def test_largest_number_is_below_one(monkeypatch):
    monkeypatch.setattr(philox, "numpy_words", lambda *_: np.full((1, 4), -1, np.int64))
    assert (philox.uniform(0, torch.tensor([0]), (8,)) < 1).all()
    assert philox.normal(0, torch.tensor([0]), (8,)).isfinite().all()
