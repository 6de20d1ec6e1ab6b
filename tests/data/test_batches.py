"""Batches are functions of the step: the same on any number of processes, after any interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adaqf_train.config import DiffusionConfig
from adaqf_train.data.batches import MotionBatch, StepBatches, best_shapes, crop, pad
from adaqf_train.data.captions import CaptionTable
from adaqf_train.encoders.pocket_clip import train_tokenizer
from adaqf_train.errors import DataError


def tensors(batch: MotionBatch) -> dict[str, torch.Tensor]:
    return {k: v for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}


def test_a_batch_depends_on_seed_and_step_only(tiny_train):
    one, two, other = StepBatches(tiny_train, 8, 0), StepBatches(tiny_train, 8, 0), StepBatches(tiny_train, 8, 1)
    two[3]  # what was drawn before leaves no trace
    assert one[5].keys == two[5].keys
    assert one[5].captions == two[5].captions
    for name, value in tensors(one[5]).items():
        assert torch.equal(value, tensors(two[5])[name])
    assert one[5].keys != one[4].keys
    assert one[5].keys != other[5].keys


def test_processes_share_out_the_same_global_batch(tiny_train):
    whole = StepBatches(tiny_train, 8, 0)[7]
    parts = [StepBatches(tiny_train, 8, 0, process=p, processes=2)[7] for p in range(2)]
    assert parts[0].keys + parts[1].keys == whole.keys
    assert parts[0].captions + parts[1].captions == whole.captions
    assert torch.equal(torch.cat([p.timestep for p in parts]), whole.timestep)
    for row, part in ((0, parts[0]), (4, parts[1])):
        length = int(part.lengths[0])
        assert torch.equal(part.motion[0, :length], whole.motion[row, :length])
        assert torch.equal(part.noise[0, :length], whole.noise[row, :length])


def test_motion_is_a_crop_of_the_item_normalised(tiny_train):
    batch = StepBatches(tiny_train, 8, 0)[3]
    items = {item.key: tiny_train.normalise(item.vectors) for item in tiny_train.items}
    for key, row, length in zip(batch.keys, batch.motion.numpy(), batch.lengths.tolist(), strict=True):
        found = [i for i in range(len(items[key])) if np.array_equal(items[key][i : i + length], row[:length])]
        assert len(found) == 1


def test_noise_is_standard_normal_and_of_its_sample_alone(tiny_train):
    source = StepBatches(tiny_train, 16, 0)
    batches = [source[step] for step in range(40)]
    noise = torch.cat([batch.noise[batch.mask].flatten() for batch in batches])
    assert noise.mean().item() == pytest.approx(0, abs=0.002)
    assert noise.std().item() == pytest.approx(1, abs=0.002)
    assert (noise.abs() > 3).float().mean().item() == pytest.approx(0.0027, abs=0.0002)
    # Of each sample the first value: seeds that follow each other must not give values that do.
    first = torch.cat([batch.noise[:, 0, 0] for batch in batches])
    assert first.mean().item() == pytest.approx(0, abs=0.15)
    assert first.std().item() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.15
    assert len(set(first.tolist())) == len(first)
    assert first[0] != StepBatches(tiny_train, 16, 1)[0].noise[0, 0, 0]


def test_an_epoch_visits_each_item_at_most_once(tiny_train):
    batches = StepBatches(tiny_train, 8, 0)
    per_epoch = len(tiny_train) // 8
    epochs = [[k for s in range(e * per_epoch, (e + 1) * per_epoch) for k in batches[s].keys] for e in range(2)]
    for keys in epochs:
        assert len(set(keys)) == len(keys) == per_epoch * 8
    assert epochs[0] != epochs[1]


def padded_share(source: StepBatches, steps: int) -> float:
    batches = [source[step] for step in range(steps)]
    return 1 - sum(int(b.mask.sum()) for b in batches) / sum(b.mask.numel() for b in batches)


def test_buckets_save_padding_and_leave_an_epoch_whole(tiny_train):
    chance, bucketed = StepBatches(tiny_train, 4, 0), StepBatches(tiny_train, 4, 0, bucket=3)
    per_epoch = len(tiny_train) // 4
    for epoch in range(2):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        keys = [key for step in steps for key in bucketed[step].keys]
        assert len(set(keys)) == len(keys) == per_epoch * 4
        assert set(keys) == {key for step in steps for key in chance[step].keys}  # also which ones are left over
        assert keys != [key for step in steps for key in chance[step].keys]
    assert padded_share(bucketed, 4 * per_epoch) < 0.7 * padded_share(chance, 4 * per_epoch)
    again = StepBatches(tiny_train, 4, 0, bucket=3)  # a function of the step, whatever was drawn before
    assert again[9].keys == bucketed[9].keys
    assert torch.equal(again[9].noise, bucketed[9].noise)


def test_buckets_leave_an_epoch_in_sections_so_that_all_clips_can_meet(tiny_train):
    """All of the data sorted at once would make nearly the same batches of every epoch."""
    wide = StepBatches(tiny_train, 4, 0, bucket=100)
    per_epoch = len(tiny_train) // 4
    met = {frozenset(wide[step].keys) for step in range(6 * per_epoch)}
    assert len(met) > 5 * per_epoch
    widest = StepBatches(tiny_train, 4, 0, bucket=1000)
    assert widest[5].keys == wide[5].keys


def test_buckets_come_in_any_order_and_are_shared_out_evenly(tiny_train):
    bucketed = StepBatches(tiny_train, 2, 0, bucket=6)
    per_epoch = len(tiny_train) // 2
    longest = [[bucketed[e * per_epoch + i].motion.shape[1] for i in range(per_epoch)] for e in range(8)]
    assert any(epoch != sorted(epoch) for epoch in longest)
    # A process that always had the shorter half would wait for the other one.
    halves = [StepBatches(tiny_train, 2, 0, bucket=6, process=p, processes=2) for p in range(2)]
    assert halves[0][4].keys + halves[1][4].keys == bucketed[4].keys
    frames = [sum(int(half[step].lengths.sum()) for step in range(40)) for half in halves]
    assert frames[0] == pytest.approx(frames[1], rel=0.03)


def test_padding_is_zero_and_masked(tiny_train):
    batch = StepBatches(tiny_train, 8, 0)[0]
    assert batch.motion.shape[1] % 4 == 0
    assert not batch.mask.all()
    assert (batch.motion[~batch.mask] == 0).all()
    assert batch.lengths.tolist() == batch.mask.sum(1).tolist()
    assert int(batch.lengths.max()) == batch.motion.shape[1]


def test_timesteps_and_dropped_texts_have_the_asked_distribution(tiny_train):
    source = StepBatches(tiny_train, 32, 0, diffusion=DiffusionConfig(steps=10, text_drop=0.25))
    drawn = [source[s] for s in range(60)]
    steps = torch.cat([b.timestep for b in drawn])
    assert set(steps.tolist()) == set(range(10))
    assert torch.cat([b.keep_text for b in drawn]).float().mean().item() == pytest.approx(0.75, abs=0.03)
    kept = StepBatches(tiny_train, 32, 0, diffusion=DiffusionConfig(text_drop=0.0))[0]
    assert kept.keep_text.all()


def test_crops_are_whole_units_two_thirds_of_them_the_longest():
    vectors = np.arange(50, dtype=np.float32)[:, None]
    rng = np.random.default_rng(0)
    crops = [crop(vectors, 4, rng) for _ in range(600)]
    lengths = np.array([len(c) for c in crops])
    assert set(lengths) == {48, 44}
    assert (lengths == 48).mean() == pytest.approx(2 / 3, abs=0.06)
    assert {int(c[0, 0]) for c in crops if len(c) == 44} == set(range(7))
    assert all((np.diff(c[:, 0]) == 1).all() for c in crops)
    assert len(crop(vectors[:5], 4, rng)) == 4  # a single unit is never cut to nothing


def test_worker_processes_give_the_same_batches(tiny_train):
    source = StepBatches(tiny_train, 4, 0)
    for step, batch in enumerate(source.from_step(2, 5, workers=1), start=2):
        assert batch.keys == source[step].keys
        assert torch.equal(batch.noise, source[step].noise)
    assert step == 4


def test_pad_and_its_mask():
    padded, mask = pad([np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)])
    assert padded.shape == (2, 4, 3)
    assert mask.tolist() == [[True, True, False, False], [True] * 4]
    assert padded[0, 2:].abs().sum() == 0


def test_batches_that_cannot_be_made_are_refused(tiny_train):
    with pytest.raises(DataError, match="fewer than a batch of 1000"):
        StepBatches(tiny_train, 1000, 0)
    with pytest.raises(DataError, match="cannot be divided over 3 processes"):
        StepBatches(tiny_train, 8, 0, processes=3)


def test_batches_have_few_sizes_that_pad_little(tiny_train):
    tokenizer = train_tokenizer(tiny_train.captions(), 600)
    table = CaptionTable(tokenizer, tiny_train.captions())
    settings = {"captions": table, "bucket": 3}
    exact, few, one = (StepBatches(tiny_train, 4, 0, shapes=shapes, **settings) for shapes in (None, 6, 1))
    steps = range(3 * (len(tiny_train) // 4))
    shapes = [{(source[s].motion.shape[1], source[s].tokens) for s in steps} for source in (exact, few, one)]
    assert len(shapes[0]) > 6 >= len(shapes[1]) > 1 == len(shapes[2])
    frames = [sum(source[s].motion.shape[1] for s in steps) for source in (exact, few, one)]
    assert frames[0] <= frames[1] < 1.15 * frames[0] < frames[2]
    for s in steps:  # what is padded changes no draw
        a, b = exact[s], few[s]
        length = a.motion.shape[1]
        assert torch.equal(a.motion, b.motion[:, :length])
        assert torch.equal(a.noise, b.noise[:, :length])
        assert not b.motion[:, length:].any()
        assert not b.mask[:, length:].any()


def test_best_shapes_cover_and_pad_little():
    frames = [(size, 0) for size in (10, 10, 10, 20, 21, 22, 40)]
    assert best_shapes(frames, 1) == [(40, 0)]
    assert best_shapes(frames, 2) == [(22, 0), (40, 0)]
    assert best_shapes(frames, 3) == [(10, 0), (22, 0), (40, 0)]
    assert best_shapes(frames, 9) == [(10, 0), (20, 0), (21, 0), (22, 0), (40, 0)]
    # Long captions meet short clips and long ones: pairs pad less than a grid of as many sizes.
    pairs = [(48, 12), (48, 40), (52, 14), (100, 12), (104, 40), (100, 14), (196, 12), (192, 14)]
    chosen = best_shapes(pairs, 5)
    assert chosen == [(52, 14), (48, 40), (100, 14), (104, 40), (196, 14)]
    assert all(any(f >= frames and t >= tokens for f, t in chosen) for frames, tokens in pairs)
