"""What only a GPU shows: captured steps and samplers, noise, encoding, and no waiting. Run with `pytest -m gpu`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaclip import AdaCLIP
from adaqf_train import philox
from adaqf_train.config import RunConfig, override
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.training.fit import prepare
from adaqf_train.training.graphs import GraphStep, step_for
from adaqf_train.training.loop import Place
from tests.generators.families import generator_of
from tests.helpers import PROMPTS, deviation

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
CLOSE = 1e-3  # share of the largest value; a GPU adds in another order than a CPU, and TF32 may be on
STILL = ("denoiser.dropout=0", "training.steps=12", "training.checkpoint_every=100")


@pytest.fixture
def fitted(accelerator_of, tiny_train, base, tiny_config, make_extractors, tmp_path):
    """fitted(name, settings…): the losses of a fit of AdaQF, and its generator."""

    def fit(name: str, *settings: str, precision: str = "no"):
        config: RunConfig = override(tiny_config, [*STILL, *settings])
        place = Place(tmp_path / f"{name}.jsonl", tmp_path / name)
        accelerator = accelerator_of(DEVICE, precision)
        generator = fit_adaqf(accelerator, tiny_train, str(base), make_extractors(config), config, place)
        return [json.loads(line)["loss"] for line in place.log.read_text().splitlines()], generator

    return fit


def test_captured_steps_give_the_losses_of_single_kernels(fitted):
    eager, _ = fitted("eager", "training.graphs=false")
    captured, _ = fitted("captured", "training.graphs=true")
    assert np.allclose(captured, eager, rtol=CLOSE)
    assert len(set(captured)) == len(captured)  # a replay that reads old batches repeats its losses


def test_losses_on_a_gpu_are_those_of_a_cpu(fitted, monkeypatch):
    on_gpu, _ = fitted("gpu")
    monkeypatch.setattr("tests.training.test_on_gpu.DEVICE", "cpu")
    on_cpu, _ = fitted("cpu")
    assert np.allclose(on_gpu, on_cpu, rtol=10 * CLOSE)


def test_resumed_fit_gives_the_losses_of_an_uninterrupted_one(fitted):
    whole, _ = fitted("whole", "training.checkpoint_every=4")
    fitted("halves", "training.checkpoint_every=4", "training.steps=8")
    halves, _ = fitted("halves", "training.checkpoint_every=4")
    assert np.allclose(halves, whole, rtol=CLOSE)


@pytest.mark.parametrize("graphs", [False, True])
def test_steps_do_not_wait_for_the_device(graphs, accelerator_of, tiny_train, make_objective):
    objective = make_objective("denoiser.dropout=0")
    accelerator = accelerator_of(DEVICE)
    training = replace(objective.config.training, graphs=graphs, shapes=1)
    objective.accelerator = accelerator
    objective.to(accelerator.device)
    source, state, wrapped = prepare(accelerator, tiny_train, objective, training)
    step = step_for(accelerator, wrapped, state, training)
    assert isinstance(step, GraphStep) == graphs
    batches = source.from_step(0, 8, 0)
    for _ in range(4):  # planned, and captured
        step(next(batches), logged=False)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            step(batch, logged=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("family", ["latent", "masked", "mdm"])
def test_captured_samplers_give_the_motions_of_single_kernels(family, base):
    generator = generator_of(family, base).to(DEVICE)

    def made(seed: int) -> list[np.ndarray]:
        return generator.generate_features(PROMPTS, [12, 40, 20], seed=seed)

    generator.graphs = False
    wanted = [made(seed) for seed in range(3)]
    generator.graphs = True
    for _ in range(2):  # the second round replays
        for seed, expected in enumerate(wanted):
            for found, motion in zip(made(seed), expected, strict=True):
                assert deviation(found, motion) < CLOSE
    assert generator._graphs._captured


def test_noise_is_that_of_the_cpu():
    items = torch.tensor([0, 5, 2**40 + 3])
    found = philox.normal(7, items.to(DEVICE), (33, 5), stream=2, step=4)
    assert deviation(found.cpu(), philox.normal(7, items, (33, 5), stream=2, step=4)) < 1e-5


def test_vectors_are_those_of_the_cpu_and_stay_on_the_device(base):
    encoder = AdaCLIP.from_base(base, rank=2, alpha=2).eval()
    for parameter in encoder.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    wanted = encoder.encode(PROMPTS, output="both")
    encoder.to(DEVICE)
    found = encoder.encode(PROMPTS, output="both", convert_to_tensor=True)
    for value, expected in zip(found, wanted, strict=True):
        assert value.device.type == DEVICE
        assert deviation(value.cpu().float(), expected.float()) < CLOSE
