"""The evaluator's training with flipped captions: which it sees, and that they count."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from accelerate import Accelerator

from adaqf_train.data.batches import StepBatches
from adaqf_train.data.captions import CaptionTable
from adaqf_train.data.wording import flips
from adaqf_train.encoders.pocket_clip import train_tokenizer
from adaqf_train.judges.contrastive import fit_judge
from adaqf_train.judges.matcher import Matcher
from adaqf_train.training.loop import Place


@pytest.fixture(scope="module")
def tokenizer(tiny_train):
    return train_tokenizer(tiny_train.captions(), 600)


def test_flipped_captions_of_a_batch_are_those_of_its_captions(tiny_train, tokenizer):
    table = CaptionTable(tokenizer, tiny_train.captions(), with_flips=True)
    batches = [StepBatches(tiny_train, 8, 0, captions=table)[step] for step in range(6)]
    found = 0
    for batch in batches:
        for caption, row, flipped in zip(batch.captions, batch.caption.tolist(), batch.flipped.tolist(), strict=True):
            assert table.texts[row] == caption
            assert (table.texts[flipped] in flips(caption)) if flips(caption) else flipped == -1
            found += flipped >= 0
            assert table.lengths[[row, *([flipped] if flipped >= 0 else [])]].max() <= batch.tokens
    assert found > 24
    plain = StepBatches(tiny_train, 8, 0, captions=CaptionTable(tokenizer, tiny_train.captions()))[0]
    assert (plain.flipped == -1).all()
    assert plain.captions == batches[0].captions  # which flip is drawn changes nothing else


def test_flipped_captions_change_what_is_learnt(tiny_train, tiny_config, tokenizer, tmp_path):
    weights = []
    for number, flipped in enumerate((False, True, True)):
        config = replace(tiny_config.evaluator, flipped=flipped)
        build = partial(Matcher, tiny_train.features, len(tokenizer), config)
        place = Place(tmp_path / f"{number}.jsonl")
        fitted = fit_judge(Accelerator(cpu=True), tiny_train, build, tokenizer, config, place)
        weights.append(torch.cat([p.flatten() for p in fitted.parameters()]))
    assert torch.isfinite(weights[1]).all()
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])
