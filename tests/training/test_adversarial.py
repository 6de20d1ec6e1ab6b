"""Extractors that are trained against gradient steps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adaqf_train.config import override
from adaqf_train.data.batches import StepBatches
from adaqf_train.judges.contrastive import ContrastiveObjective, judge_objective, step_along


def test_step_along_has_its_size_over_the_real_frames_of_each_clip():
    torch.manual_seed(0)
    gradient, mask = torch.randn(2, 8, 5), torch.arange(8) < torch.tensor([[8], [4]])
    step = step_along(gradient * 1e-6, mask, 0.3)
    assert step[1, 4:].abs().max() == 0
    for row, length in enumerate((8, 4)):
        assert step[row, :length].square().mean().sqrt().item() == pytest.approx(0.3)
        assert torch.allclose(step[row, :length] / gradient[row, :length], (step[row] / gradient[row])[0, 0])


def test_step_along_a_gradient_of_zero_is_zero():
    assert step_along(torch.zeros(1, 4, 3), torch.ones(1, 4, dtype=torch.bool), 0.3).abs().max() == 0


@pytest.mark.parametrize("objective", ["infonce", "margin", "minimal_pairs"])
def test_adversarial_loss_counts_motions_moved_against_it(
    accelerator, make_extractors, make_objective, tiny_train, tiny_config, objective
):
    config = override(tiny_config, ["extractors.dropout=0", f"extractors.objective={objective}"])
    tokenizer, extractors = make_objective().encoder.tokenizer, make_extractors(config)

    def objective_with(size: float) -> ContrastiveObjective:
        settings = replace(config.extractors, adversarial=size)
        return judge_objective(accelerator, extractors, tokenizer, tiny_train.captions(), settings)

    batch = StepBatches(tiny_train, 8, 0, captions=objective_with(0).captions)[0]
    clean, small, large = (objective_with(size)(batch)[0] for size in (0, 0.02, 0.04))
    assert clean.item() < small.item() < large.item()
    large.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in extractors.motion.parameters())


def test_smoothed_extractors_read_real_frames_alone(make_extractors, tiny_config):
    motion = make_extractors(override(tiny_config, ["extractors.smoothing=1.5"])).motion.eval()
    torch.manual_seed(0)
    clip, mask = torch.randn(1, 24, motion.inputs + 4), torch.ones(1, 24, dtype=torch.bool)
    padded, real = torch.cat([clip, torch.full_like(clip, 9.0)], dim=1), torch.arange(48) < 24
    assert torch.allclose(motion(clip, mask), motion(padded, real[None]), atol=1e-6)
    constant = torch.ones_like(clip)
    assert torch.allclose(motion.smooth(constant, mask), constant)


def test_smoothed_extractors_ask_for_less_jitter(make_extractors, tiny_config):
    """Their gradient, which is the feedback, has little in the fastest half of the frequencies."""
    torch.manual_seed(0)
    clip, mask, shares = torch.randn(4, 64, 263), torch.ones(4, 64, dtype=torch.bool), []
    for smoothing in (0, 1.5):
        motion = make_extractors(override(tiny_config, [f"extractors.smoothing={smoothing}"])).motion.eval()
        clip.requires_grad_().grad = None
        motion(clip, mask).square().sum().backward()
        power = torch.fft.rfft(clip.grad, dim=1).abs().square().sum(dim=(0, 2))
        shares.append(power[len(power) // 2 :].sum() / power.sum())
    assert shares[1] < shares[0] / 10
