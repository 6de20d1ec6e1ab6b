"""A step's loss and gradients read nothing back from the device: on a GPU that would wait for all queued work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from accelerate import Accelerator

from adaqf_train import philox
from adaqf_train.config import override
from adaqf_train.data.batches import StepBatches
from adaqf_train.data.captions import CaptionTable
from adaqf_train.encoders import pocket_clip
from adaqf_train.judges import contrastive
from adaqf_train.judges.matcher import Matcher
from adaqf_train.training.objective import Objective
from tests.waiting import Waited, drawn_on_device, no_waiting


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: int(x.sum()),
        lambda x: float(x.sum()),
        lambda x: bool(x.sum() > 0),
        lambda x: "positive" if x.sum() > 0 else "negative",
    ],
)
def test_no_waiting_refuses_every_read(read):
    """The control of the tests below."""
    x = torch.ones(3)
    with no_waiting(), pytest.raises(Waited):
        read(x)


def test_no_waiting_refuses_reads_in_the_backward_pass():
    class Reads(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    x = torch.ones(3, requires_grad=True)
    with no_waiting(), pytest.raises(Waited):
        Reads.apply(x).sum().backward()


@pytest.fixture
def stepped(accelerator, tiny_train, monkeypatch) -> Callable[[Objective], None]:
    """stepped(objective): its loss and gradients on two batches, the second under `no_waiting`."""
    noise = philox.normal(1, torch.arange(3), (5,))
    monkeypatch.setattr(philox, "_pairs", drawn_on_device)
    assert torch.equal(philox.normal(1, torch.arange(3), (5,)), noise)

    def step(objective: Objective) -> None:
        for network in objective.learns.values():
            network.train()
        objective.to(accelerator.device)
        drawn = {"captions": objective.captions, "diffusion": objective.diffusion, "shapes": 4}
        source = StepBatches(tiny_train, 8, 0, **drawn)
        for number in range(2):
            batch = source[number].to(accelerator.device)
            with no_waiting() if number else nullcontext():
                loss, _ = objective(batch)
                loss.backward()
            assert torch.isfinite(loss)

    return step


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("feedback.weighting=alpha_bar", "feedback.max_timestep=20", "encoder.dropout=0.1"),
        ("encoder.tuning=full", "denoiser.conditioning=both"),
        ("encoder.tuning=frozen", "feedback.motion=0", "feedback.text=0"),
        ("denoiser.arch=encoder", "denoiser.conditioning=pooled"),
        ("feedback.balance=0.5", "feedback.hinge=true", "feedback.fade=true", "training.cool_down=0.5"),
        ("physics.velocity=0.3", "physics.feet=0.1", "feedback.hidden=0.5"),
        ("alignment.steps=2", "alignment.weight=0.1"),
    ],
)
def test_adaqf_step_reads_nothing_back(make_objective, stepped, settings):
    stepped(make_objective(*settings))


@pytest.mark.parametrize(
    "setting", ["objective=infonce", "objective=margin", "objective=minimal_pairs", "adversarial=0.3"]
)
def test_extractors_step_reads_nothing_back(
    accelerator, make_extractors, make_objective, tiny_config, tiny_train, stepped, setting
):
    config = override(tiny_config, [f"extractors.{setting}"])
    tokenizer = make_objective().encoder.tokenizer
    extractors, captions = make_extractors(config), tiny_train.captions()
    stepped(contrastive.judge_objective(accelerator, extractors, tokenizer, captions, config.extractors))


@pytest.mark.parametrize("flipped", [False, True])
def test_evaluator_step_reads_nothing_back(accelerator, make_objective, tiny_config, tiny_train, stepped, flipped):
    config = override(tiny_config, [f"evaluator.flipped={flipped}"]).evaluator
    tokenizer = make_objective().encoder.tokenizer
    matcher = Matcher(tiny_train.features, len(tokenizer), config)
    stepped(contrastive.judge_objective(accelerator, matcher, tokenizer, tiny_train.captions(), config))


def test_still_pose_step_reads_nothing_back(accelerator: Accelerator, tiny_config, tiny_train, stepped):
    config = tiny_config.pocket_clip
    tokenizer = pocket_clip.train_tokenizer(tiny_train.captions(), config.vocabulary)
    still = pocket_clip.pose_slice(tiny_train.features)
    towers = pocket_clip.StillPoseClip(pocket_clip.build(tokenizer, config), still.stop - still.start, config)
    captions = CaptionTable(tokenizer, tiny_train.captions(), device=accelerator.device)
    stepped(pocket_clip.StillPoseObjective(accelerator, towers, captions, temperature=0.07))
