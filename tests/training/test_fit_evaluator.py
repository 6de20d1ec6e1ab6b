"""The evaluator's training with flipped captions: which it sees, and that they count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from adaqf_train.data.batches import StepBatches
from adaqf_train.data.wording import flips
from adaqf_train.encoders.pocket_clip import train_tokenizer
from adaqf_train.judges import contrastive as fit_contrastive


@pytest.fixture(scope="module")
def tokenizer(tiny_train):
    return train_tokenizer(tiny_train.captions(), 600)


@pytest.mark.parametrize("count", [1, 3])
def test_the_flips_a_batch_is_given_are_its_captions_own_and_differ(tiny_train, monkeypatch, count):
    monkeypatch.setattr(fit_contrastive, "FLIPS", count)
    batch = StepBatches(tiny_train, 8, 0)[0]
    given = fit_contrastive._some_flips(batch)
    assert sum(map(len, given)) > 4 * count
    for caption, found in zip(batch.captions, given, strict=True):
        assert set(found) <= set(flips(caption))
        assert len(set(found)) == len(found) == min(fit_contrastive.FLIPS, len(flips(caption)))
    assert fit_contrastive._some_flips(batch) == given


def test_flipped_captions_change_what_is_learnt(tiny_train, tiny_config, tokenizer, tmp_path):
    weights = []
    for number, flipped in enumerate((False, True, True)):
        config = replace(tiny_config.evaluator, flipped=flipped)
        fitted = fit_contrastive.fit_evaluator(
            Accelerator(cpu=True), tiny_train, tokenizer, config, tmp_path / f"{number}.jsonl"
        )
        weights.append(torch.cat([p.flatten() for p in fitted.parameters()]))
    assert torch.isfinite(weights[1]).all()
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])
