"""Eq. 5 on a batch: what it equals without feedback, where its gradients go, and what must not matter to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

from adaclip import AdaCLIP
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.captions import CaptionTable
from tests.helpers import FLOAT32, deviation
from tests.training.conftest import STILL

PLAIN = ("feedback.motion=0", "feedback.text=0", "encoder.tuning=frozen")
SHAPES = [
    (f"denoiser.arch={arch}", f"denoiser.conditioning={conditioning}")
    for arch in ("decoder", "encoder")
    for conditioning in ("tokens", "pooled", "both")
]


@pytest.fixture
def batches(tiny_train, base) -> StepBatches:
    tokenizer = AdaCLIP.from_base(base).tokenizer
    return StepBatches(tiny_train, 8, 0, captions=CaptionTable(tokenizer, tiny_train.captions()))


def plain_mdm(objective, batch: MotionBatch) -> torch.Tensor:
    """MDM's training loss, written out: noise a clip, predict it clean, compare on its real frames."""
    encoder, denoiser, diffusion = objective.encoder, objective.denoiser, objective.schedule
    with torch.no_grad():
        text = encoder(*encoder.tokenize(batch.captions))
    alpha_bar = diffusion.alpha_bar[batch.timestep][:, None, None]
    x_t = alpha_bar.sqrt() * batch.motion + (1 - alpha_bar).sqrt() * batch.noise
    x0 = denoiser(x_t, batch.timestep, text, batch.mask, batch.keep_text)
    error = (x0 - batch.motion).square().sum(dim=-1) * batch.mask
    return (error.sum(dim=-1) / (batch.mask.sum(dim=-1) * batch.motion.shape[-1])).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_without_feedback_and_with_a_frozen_encoder_it_is_plain_mdm_bit_for_bit(make_objective, batches, shape):
    """With dropout: the same seed gives the same masks, so nothing else may draw."""
    objective, plain = make_objective(*PLAIN, *shape), make_objective(*PLAIN, *shape)
    for step in range(3):
        torch.manual_seed(step)
        loss, parts = objective(batches[step])
        torch.manual_seed(step)
        expected = plain_mdm(plain, batches[step])
        assert torch.equal(loss, expected)
        assert torch.equal(parts["mse"], expected)
        for one, value in ((objective, loss), (plain, expected)):
            value.backward()
            one.optimizer.step()
            one.optimizer.zero_grad()
    assert not torch.equal(make_objective(*shape)(batches[0])[0], expected)  # control: feedback is another loss


def test_gradients_reach_every_tensor_of_the_adapter_through_the_denoiser(make_objective, batches):
    objective = make_objective()
    encoder, denoiser, extractors = objective.encoder, objective.denoiser, objective.feedback.judge
    frozen = {name: value.clone() for name, value in extractors.state_dict().items()}
    objective(batches[0])[0].backward()
    fresh = {name: p.grad.abs().max().item() for name, p in encoder.named_parameters() if p.requires_grad}
    # At the start B is zero, so that nothing reaches A: the control of what is asserted below.
    assert all((value == 0) == ("lora_A" in name) for name, value in fresh.items())
    objective.optimizer.step()
    objective.optimizer.zero_grad()
    objective(batches[1])[0].backward()
    assert len(fresh) == 2 * 5 * 2  # A and B of five matrices in each of two layers
    for name, parameter in [*encoder.named_parameters(), *denoiser.named_parameters()]:
        if parameter.requires_grad:
            assert parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name
    assert all(p.grad is None and not p.requires_grad for p in extractors.parameters())
    assert all(torch.equal(value, frozen[name]) for name, value in extractors.state_dict().items())


def padded(batch: MotionBatch, frames: int, garbage: float) -> MotionBatch:
    """The same clips in a longer batch, with garbage where no clip is."""
    mask = pad(batch.mask, (0, frames))
    motion = pad(batch.motion, (0, 0, 0, frames)).masked_fill(~mask[..., None], garbage)
    return replace(batch, motion=motion, mask=mask)


def figures(parts: dict[str, torch.Tensor]) -> list[float]:
    return [value.item() for value in parts.values()]


@pytest.mark.parametrize("shape", SHAPES)
def test_neither_padded_frames_nor_padded_tokens_matter(make_objective, batches, shape):
    objective = make_objective(*STILL, *shape)
    batch = batches[0]
    expected = figures(objective(batch)[1])
    for frames, garbage in ((0, 50.0), (24, 0.0), (24, 50.0)):
        assert figures(objective(padded(batch, frames, garbage))[1]) == pytest.approx(expected, rel=FLOAT32)
    longer = replace(batch, tokens=batch.tokens + 7)
    assert figures(objective(longer)[1]) == pytest.approx(expected, abs=2e-6)
    tokens = objective.captions.tokens

    def read(rows: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids, _ = tokens(rows, width)
        return ids, torch.ones_like(ids, dtype=torch.bool)

    objective.captions.tokens = read  # control: the same garbage where it counts; the pooled vector reads no padding
    unchanged = figures(objective(longer)[1]) == pytest.approx(expected, abs=2e-6)
    assert unchanged == (shape[1] == "denoiser.conditioning=pooled")
    objective.captions.tokens = tokens
    seen = padded(batch, 24, 50.0)
    seen = replace(seen, mask=torch.ones_like(seen.mask))
    assert figures(objective(seen)[1]) != pytest.approx(expected, rel=FLOAT32)


def test_a_batch_in_parts_has_the_gradients_of_the_whole(make_objective, batches):
    grads = []
    for number in (1, 2, 4):
        objective = make_objective(*STILL)
        batch = batches[0]
        parts = batch.parts(number)
        assert [key for part in parts for key in part.keys] == batch.keys
        for part in parts:
            (objective(part)[0] / number).backward()
        grads.append(torch.cat([p.grad.flatten() for p in objective.denoiser.parameters()]))
    assert grads[0].abs().max() > 0.001
    for other in grads[1:]:
        assert deviation(other, grads[0]) < FLOAT32


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        (
            ("encoder.tuning=lora", "encoder.modules=q_proj,fc1"),
            {"q_proj.lora_A", "q_proj.lora_B", "fc1.lora_A", "fc1.lora_B"},
        ),
        (("encoder.tuning=frozen",), set()),
    ],
)
def test_what_learns_of_the_encoder(make_objective, settings, learns):
    encoder = make_objective(*settings).encoder
    names = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert {".".join(name.split(".")[-4:-2]) for name in names} == learns


def test_the_rank_is_the_adapters(make_objective):
    encoder = make_objective("encoder.rank=3").encoder
    assert {min(p.shape) for p in encoder.adapter_parameters()} == {3}


def test_tuned_as_a_whole_every_weight_learns_that_a_gradient_can_reach(make_objective, batches):
    for conditioning, left in (("tokens", {"text_projection"}), ("both", set())):
        objective = make_objective("encoder.tuning=full", f"denoiser.conditioning={conditioning}")
        objective(batches[0])[0].backward()
        encoder = objective.encoder
        without = {n.split(".")[-2] for n, p in encoder.named_parameters() if p.grad is None and "lora_" not in n}
        assert without == left
        assert all(p.grad is None for p in encoder.adapter_parameters())
        assert all(p.requires_grad == (p.grad is not None) for p in encoder.parameters())


@pytest.mark.parametrize("shape", SHAPES[3:])
def test_what_an_architecture_reads_of_the_text(make_objective, batches, shape):
    """Each conditioning sees what it is named after, and the text drop hides all of it."""
    objective = make_objective(*PLAIN, *STILL, *shape)
    denoiser, encoder, batch = objective.denoiser, objective.encoder, batches[0]
    conditioning = shape[1].partition("=")[2]
    text = encoder(*encoder.tokenize(batch.captions))

    def predict(features, keep=None) -> torch.Tensor:
        return denoiser(batch.noise, batch.timestep, features, batch.mask, keep)[batch.mask]

    expected = predict(text)
    other_pooled = predict(text._replace(pooled=text.pooled + 1))
    other_tokens = predict(text._replace(tokens=text.tokens + text.mask[..., None]))
    assert torch.equal(other_pooled, expected) == (conditioning == "tokens")
    assert torch.equal(other_tokens, expected) == (conditioning == "pooled")
    none = torch.zeros(8, dtype=torch.bool)
    hidden = predict(text, none)
    assert torch.equal(predict(text._replace(pooled=text.pooled + 1, tokens=text.tokens + 1), none), hidden)
    assert not torch.equal(hidden, expected)
