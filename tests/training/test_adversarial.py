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
