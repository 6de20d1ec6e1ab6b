"""The terms beside Eq. 5: balanced and hinged feedback, physics, contrast, a hidden layer; and schedules."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from adaclip import AdaCLIP
from adaqf_train.cli import main
from adaqf_train.config import FeedbackConfig, PhysicsConfig, TrainingConfig, override
from adaqf_train.data.batches import StepBatches
from adaqf_train.errors import ConfigError
from adaqf_train.generators.mdm.feedback import Feedback, Physics, balanced
from adaqf_train.motion.features import decode, encode
from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.training.step import Step
from tests.helpers import settings_of


def batch_of(dataset, objective=None, step: int = 0, **options):
    drawn = {} if objective is None else {"captions": objective.captions, "diffusion": objective.diffusion}
    return StepBatches(dataset, 8, 0, **drawn, **options)[step]


# ---- schedules ----


def rates(**settings) -> list[float]:
    step = Step.__new__(Step)
    step.training = TrainingConfig(drop_at=None, **settings)
    return [step.rate(i) for i in range(settings["steps"])]


def test_rate_falls_to_zero_over_the_last_share():
    found = rates(steps=100, cool_down=0.25)
    assert found[:75] == [1.0] * 75
    assert found[76] == pytest.approx(24 / 25)
    assert found[-1] == pytest.approx(1 / 25)  # the step after the last would have rate 0
    assert rates(steps=100) == [1.0] * 100


def test_noisy_share_draws_that_many_timesteps_from_the_noisiest_fifth(tiny_train, tiny_config):
    share = 0.5
    for wanted, settings in ((0.2, ()), (share + (1 - share) * 0.2, (f"diffusion.noisy_share={share}",))):
        diffusion = override(tiny_config, settings).diffusion
        batches = StepBatches(tiny_train, 8, 0, diffusion=diffusion)
        t = torch.cat([batches[step].timestep for step in range(150)])
        assert (t >= 40).float().mean().item() == pytest.approx(wanted, abs=0.04)


# ---- balance ----


def test_balanced_feedback_has_the_share_of_the_reconstructions_gradient():
    torch.manual_seed(0)
    layer, x, target = nn.Linear(5, 7), torch.randn(4, 3, 5), torch.randn(4, 3, 7)
    generated = layer(x)
    mse, feedback = (generated - target).square().mean(), 1000 * generated.sin().mean()
    (own,) = torch.autograd.grad(mse, layer.weight, retain_graph=True)
    (pull,) = torch.autograd.grad(feedback, layer.weight, retain_graph=True)
    on_output = [torch.autograd.grad(part, generated, retain_graph=True)[0].norm() for part in (mse, feedback)]
    scale = 0.25 * on_output[0] / on_output[1]
    scaled = balanced(feedback, mse, generated, 0.25)
    assert scaled.item() == pytest.approx((scale * feedback).item(), rel=1e-5)
    (mse + scaled).backward()
    assert torch.allclose(layer.weight.grad, own + scale * pull, rtol=1e-4, atol=1e-6)


def test_balanced_feedback_does_not_depend_on_the_size_of_its_weights(make_objective, tiny_train):
    def gradient(*settings: str) -> torch.Tensor:
        objective = make_objective("denoiser.dropout=0", "feedback.balance=0.5", *settings)
        objective(batch_of(tiny_train, objective))[0].backward()
        return objective.denoiser.frames.frames_out.weight.grad

    small, large = (
        gradient("feedback.motion=0.01", "feedback.text=0.05"),
        gradient("feedback.motion=10", "feedback.text=50"),
    )
    assert torch.allclose(small, large, rtol=1e-3, atol=1e-7)
    assert not torch.allclose(small, gradient("feedback.motion=0.05", "feedback.text=0.01"), rtol=1e-3, atol=1e-7)


def test_balanced_feedback_reaches_the_adapter(make_objective, tiny_train):
    objective = make_objective("feedback.balance=0.5")
    for parameter in objective.encoder.adapter_parameters():
        nn.init.normal_(parameter, std=0.1)
    objective(batch_of(tiny_train, objective))[0].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.encoder.adapter_parameters())


# ---- hinge and windows ----


class Directions(nn.Module):
    """A judge whose embedding of a motion is its first two features in frame 0; captions lie on the first axis."""

    width = 2

    def embed_motion(self, motion, mask):
        return motion[:, 0, :2]

    def embed_captions(self, captions):
        return torch.tensor([[1.0, 0.0]])


def terms(generated: float, real: float, t: int = 0, **settings) -> list[float]:
    """L_M and L_T of a motion at an angle (degrees) to its caption, beside a real one at another angle."""

    def at(angle: float) -> torch.Tensor:
        angle = torch.tensor(angle).deg2rad()
        return torch.stack([angle.cos(), angle.sin()])[None, None]

    batch = SimpleNamespace(
        motion=at(real),
        mask=torch.ones(1, 1, dtype=torch.bool),
        caption=torch.tensor([0]),
        keep_text=torch.tensor([True]),
        timestep=torch.tensor([t]),
    )
    feedback = Feedback(Directions(), FeedbackConfig(**settings), torch.tensor([0.9, 0.5, 0.1]), None)
    return [part.item() for part in feedback(at(generated), batch)]


def test_hinge_asks_for_no_more_than_the_real_motion_reaches():
    cosine = lambda angle: float(torch.tensor(angle).deg2rad().cos())  # noqa: E731
    assert terms(60.0, 30.0)[1] == pytest.approx(1 - cosine(60.0))
    assert terms(60.0, 30.0, hinge=True)[1] == pytest.approx(cosine(30.0) - cosine(60.0), abs=1e-6)
    assert terms(10.0, 30.0, hinge=True)[1] == 0.0  # past the real motion
    assert terms(10.0, 30.0)[1] > 0.0


@pytest.mark.parametrize(("first", "last", "given"), [(0, None, [0, 1, 2]), (1, None, [1, 2]), (1, 1, [1])])
def test_feedback_stays_within_its_window_of_timesteps(first, last, given):
    settings = {"min_timestep": first, "max_timestep": last}
    assert [t for t in range(3) if terms(60.0, 30.0, t, **settings)[0] > 0] == given


# ---- physics ----


def physics_of(own: np.ndarray, real: np.ndarray, real_frames: int | None = None) -> tuple[float, float]:
    """Velocity and feet errors of joints (T + 1, 22, 3)."""
    features = [
        torch.from_numpy(encode(joints.astype(np.float64), canonical=False)).float()[None] for joints in (own, real)
    ]
    mask = torch.ones(features[0].shape[:2], dtype=torch.bool)
    if real_frames is not None:
        mask[:, real_frames:] = False
        features = [x * mask[..., None] for x in features]
    mean, std = torch.full((263,), 0.1), torch.full((263,), 2.0)
    normalised = [(x - mean) / std * mask[..., None] for x in features]
    batch = SimpleNamespace(motion=normalised[1], mask=mask)
    return tuple(part.item() for part in Physics(PhysicsConfig(1.0, 1.0), mean, std)(normalised[0], batch))


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    from adaqf_train.procedural import generate

    return next(clip.joints for clip in generate(40) if clip.actions[0]["action"] == "walk").astype(np.float64)


def test_physics_of_the_real_motion_has_no_velocity_error(walk):
    velocity, feet = physics_of(walk, walk)
    assert velocity == pytest.approx(0, abs=1e-6)
    assert feet >= 0


def test_physics_measures_in_metres_per_second(walk):
    """Reference: positions decoded in numpy, differenced by hand."""
    rng = np.random.default_rng(0)
    other = walk + rng.normal(0, 0.01, walk.shape)
    velocity, feet = physics_of(other, walk)
    own, real = (
        np.diff(decode(torch.from_numpy(encode(j, canonical=False)).float()).numpy(), axis=0) * 20
        for j in (other, walk)
    )
    assert velocity == pytest.approx(np.square(own - real).sum(axis=-1).mean(), rel=1e-3)
    contacts = encode(walk, canonical=False)[:-1, -4:] > 0.5
    speeds = np.square(own[:, [7, 10, 8, 11]]).sum(axis=-1)
    assert feet == pytest.approx(speeds[contacts].mean(), rel=1e-3)


def test_physics_ignores_padding(walk):
    other = walk + np.random.default_rng(1).normal(0, 0.01, walk.shape)
    cut = 24
    whole = physics_of(other, walk, real_frames=cut)
    assert whole == pytest.approx(physics_of(other[: cut + 1], walk[: cut + 1]), rel=1e-3)
    assert whole[0] != pytest.approx(physics_of(other, walk)[0], rel=1e-3)


def test_physics_of_a_frozen_body_is_its_real_speed(walk):
    assert HUMANML3D.fps == 20
    still = np.repeat(walk[:1], len(walk), axis=0)
    velocity, feet = physics_of(still, walk)
    assert feet == pytest.approx(0, abs=1e-6)
    real = np.diff(decode(torch.from_numpy(encode(walk, canonical=False)).float()).numpy(), axis=0) * 20
    assert velocity == pytest.approx(np.square(real).sum(axis=-1).mean(), rel=1e-2)


def test_physics_and_baseline_go_together(make_objective, tiny_train, tiny_config):
    assert override(tiny_config, ["physics.velocity=0.3"]).baseline().physics.velocity == 0.3
    objective = make_objective("physics.velocity=0.3", "physics.feet=0.1", "feedback.motion=0", "feedback.text=0")
    loss, parts = objective(batch_of(tiny_train, objective))
    assert loss.item() == pytest.approx((parts["mse"] + 0.3 * parts["velocity"] + 0.1 * parts["feet"]).item(), rel=1e-5)


# ---- hidden layer ----


def test_hidden_layer_is_drawn_to_the_extractors_features_and_ends_halfway(make_objective, tiny_train):
    objective = make_objective("feedback.hidden=0.5", "training.steps=10", "denoiser.dropout=0")
    assert set(objective.learns) == {"denoiser", "encoder", "projector"}
    for step, counted in ((0, True), (4, True), (5, False)):
        batch = batch_of(tiny_train, objective, step)
        loss, parts = objective(batch)
        weights = objective.config.feedback
        rest = parts["mse"] + weights.motion * parts["motion"] + weights.text * parts["text"]
        assert loss.item() == pytest.approx((rest + counted * 0.5 * parts["hidden"]).item(), rel=1e-5)
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 1e-2)
    batch, found = batch_of(tiny_train, objective), []
    for _ in range(30):
        optimizer.zero_grad()
        loss, parts = objective(batch)
        loss.backward()
        optimizer.step()
        found.append(parts["hidden"].item())
    assert found[-1] < 0.7 * found[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("denoiser.arch=encoder",), "denoiser.arch=decoder"),
        (("denoiser.frames_per_token=8", "data.unit_frames=8"), "1, 2 or 4 frames"),
    ],
)
def test_hidden_layer_refuses_networks_without_one_for_each_feature(make_objective, settings, said):
    with pytest.raises(ConfigError, match=said):
        make_objective("feedback.hidden=0.5", *settings)


# ---- contrast ----


def test_contrast_remains_beside_the_feedback(make_objective, tiny_train):
    objective = make_objective("alignment.steps=2", "alignment.weight=0.1", "denoiser.dropout=0")
    assert set(objective.learns) == {"denoiser", "encoder", "aligner"}
    loss, parts = objective(batch_of(tiny_train, objective))
    weights = objective.config.feedback
    rest = parts["mse"] + weights.motion * parts["motion"] + weights.text * parts["text"]
    assert loss.item() == pytest.approx((rest + 0.1 * (parts["contrastive"] + parts["tether"])).item(), rel=1e-5)
    assert parts["tether"].item() == pytest.approx(0, abs=1e-5)  # the adapter is still fresh
    with pytest.raises(ConfigError, match=r"alignment\.steps"):
        override(objective.config, ["alignment.steps=0"])


@pytest.mark.parametrize("tuning", ["lora", "frozen"])
def test_pipeline_starts_from_an_aligned_encoder(tuning, tiny_data, tiny_config, tiny_run, tmp_path):
    """The aligned adapter is another than the base's; frozen, it is the result; tuned, it moves on from there."""
    config = replace(tiny_config, evaluation=replace(tiny_config.evaluation, multimodality_texts=None))
    changed = {
        "alignment__steps": 6,
        "alignment__batch": 8,
        "alignment__encoder_learning_rate": 0.01,
        "alignment__weight": 0.1 if tuning == "lora" else 0.0,
        "encoder__tuning": tuning,
        **({} if tuning == "lora" else {"feedback__motion": 0.0, "feedback__text": 0.0}),
    }
    out = tmp_path / "run"
    command = ["train", "--arm", "adaqf", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    command += ["--reuse", str(tiny_run), *settings_of(config, **changed)]
    assert main(command) == 0
    prompts = ["a person walks", "a person waves the left hand twice"]
    start = AdaCLIP.from_pretrained(out / "aligned" / "adapter").encode(prompts)
    base = AdaCLIP.from_base(out / "pocket_clip").encode(prompts)
    result = AdaCLIP.from_pretrained(out / "adaclip").encode(prompts)
    assert (start - base).abs().max() > 1e-3
    assert torch.allclose(result, start, atol=1e-5) == (tuning == "frozen")
    assert main(command) == 0  # finished stages are recognised
