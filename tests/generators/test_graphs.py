"""Sampling as graphs: padded shapes, replays and their limits, with a stand-in for CUDA's capture."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from adaqf_train import philox
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.graphs import KEPT, SamplingGraphs
from adaqf_train.generators.requests import Request
from adaqf_train.generators.sampling import Batch, Draw
from tests.generators.families import generator_of
from tests.helpers import FLOAT32, PROMPTS, deviation
from tests.waiting import drawn_on_device, no_waiting

FAMILIES = ["latent", "masked", "mdm"]


def capture(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A stand-in for a CUDA graph: a replay reads and writes the same tensors."""
    result = run()
    return lambda: result.copy_(run()), result


def batch_of(generator: MotionGenerator, lengths: list[int], seed: int = 0) -> Batch:
    prompts = PROMPTS[: len(lengths)]
    draws = [Draw(Request((p,), (n,)), (seed, i)) for i, (p, n) in enumerate(zip(prompts, lengths, strict=True))]
    return Batch.of(draws, generator.encoder.encode(prompts, output="both"))


def sampled(generator: MotionGenerator, batch: Batch) -> Tensor:
    return generator._sample(batch, generator.sampling, lambda: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batch_gives_the_same_motions(family, base):
    generator = generator_of(family, base)
    batch = batch_of(generator, [8, 20, 12])
    padded = batch.padded(28, 8)
    assert padded.mask.shape == (4, 28)
    assert padded.text.mask.shape[1] % 8 == 0
    with torch.no_grad():
        wanted, found = sampled(generator, batch), sampled(generator, padded)
    for row, frames in enumerate([8, 20, 12]):
        assert deviation(found[row, :frames], wanted[row, :frames]) < FLOAT32


def test_padded_batch_never_exceeds_the_batch_size(base):
    batch = batch_of(generator_of("mdm", base), [8, 8, 8])
    assert len(batch.padded(28, 3).mask) == 3
    assert len(batch.padded(28, 2).mask) == 3  # nor does it lose a motion


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_reads_nothing_back(family, base, monkeypatch):
    monkeypatch.setattr(philox, "_pairs", drawn_on_device)
    generator = generator_of(family, base)
    batch = batch_of(generator, [8, 12])
    with torch.no_grad(), no_waiting():
        sampled(generator, batch)


@pytest.mark.parametrize("scheduler", ["ddpm", "dpm++"])
def test_every_sampler_reads_nothing_back(scheduler, generator, monkeypatch):
    monkeypatch.setattr(philox, "_pairs", drawn_on_device)
    generator.sampling = type(generator.sampling)(scheduler=scheduler, steps=4, batch=2)
    batch = batch_of(generator, [8, 12])
    with torch.no_grad(), no_waiting():
        sampled(generator, batch)


def sampler(generator: MotionGenerator) -> Callable[[Batch, Callable], Tensor]:
    return lambda batch, on_step: generator._sample(batch, generator.sampling, on_step)


@torch.no_grad()
def test_replay_gives_the_motions_of_its_own_batch(generator):
    graphs, steps = SamplingGraphs(capture), []
    for seed in range(4):
        batch = batch_of(generator, [8, 12], seed).padded(28, 2)
        found = graphs.run("key", sampler(generator), batch, lambda: steps.append(1))
        assert torch.equal(found, sampled(generator, batch))
    assert len(steps) == 4 * generator.steps  # replays count their steps as well
    assert len(graphs._captured) == 1


@torch.no_grad()
def test_replay_reads_the_weights_as_they_are(generator):
    graphs, batch = SamplingGraphs(capture), batch_of(generator, [8, 12]).padded(28, 2)

    def run() -> Tensor:
        return graphs.run("key", sampler(generator), batch, lambda: None)

    before = [run() for _ in range(3)][-1]
    for parameter in generator.denoiser.parameters():
        parameter.mul_(1.5)
    assert not torch.allclose(run(), before)
    assert torch.equal(run(), sampled(generator, batch))


def test_single_batches_are_not_captured(generator):
    captured = []
    graphs = SamplingGraphs(captured.append)
    for frames in (28, 56, 84):
        batch = batch_of(generator, [8, 12]).padded(frames, 2)
        assert torch.equal(graphs.run("key", lambda b, step: b.mask, batch, lambda: None), batch.mask)
    assert not captured


def test_refused_capture_warns_once_and_samples_anyway(generator):
    def refuse(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs, batch = SamplingGraphs(refuse), batch_of(generator, [8, 12])
    run = lambda: graphs.run("key", lambda b, step: b.mask, batch, lambda: None)  # noqa: E731
    run()
    with pytest.warns(UserWarning, match="not captured as CUDA graphs: operation not permitted"):
        assert torch.equal(run(), batch.mask)
    assert torch.equal(run(), batch.mask)


def test_graphs_keep_a_bounded_number_and_copies_are_empty(generator):
    graphs, batch = SamplingGraphs(capture), batch_of(generator, [8, 12])
    for key in range(KEPT + 3):
        for _ in range(2):
            graphs.run(key, lambda b, step: b.mask.clone(), batch, lambda: None)
    assert len(graphs._captured) == KEPT
    assert not copy.deepcopy(graphs)._captured
