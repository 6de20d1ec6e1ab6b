"""Checkpoints and the loop: resumed equals uninterrupted, nothing is lost, and divergence is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.errors import CheckpointError, DivergenceError
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.objective import Losses
from tests.training.small_fit import STEPS, Fit, equal


@pytest.fixture
def whole(tiny_train, tmp_path) -> Fit:
    fit = Fit(tmp_path / "whole", tiny_train)
    fit.run()
    return fit


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_resumed_at_any_step_equals_uninterrupted(whole, tiny_train, tmp_path, stop):
    interrupted = Fit(tmp_path / "again", tiny_train)
    with pytest.raises(InterruptedError):
        interrupted.run(stop_after=stop)
    assert not equal(interrupted, whole)
    resumed = Fit(tmp_path / "again", tiny_train)
    resumed.run()
    assert equal(resumed, whole)
    lines = [json.loads(line) for line in resumed.place.log.read_text().splitlines()]
    assert lines == [json.loads(line) for line in whole.place.log.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))


def test_another_seed_gives_other_weights(whole, tiny_train, tmp_path):
    other = Fit(tmp_path / "other", tiny_train)
    other.source = StepBatches(tiny_train, 4, 1)
    other.run()
    assert not equal(other, whole)


def test_only_the_newest_checkpoints_are_kept(whole):
    assert [path.name for path in sorted(whole.place.checkpoints.iterdir())] == ["step_00000008", "step_00000009"]


def test_the_rate_schedule_and_the_average(whole):
    assert whole.state.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    before = [p.detach().clone() for p in whole.state.parameters()]
    average = [value.clone() for value in whole.state.average]
    assert any(not torch.equal(a, b) for a, b in zip(before, average, strict=True))
    whole.state.use_average()
    assert all(torch.equal(a, b) for a, b in zip(whole.state.parameters(), average, strict=True))


def test_a_writer_that_was_killed_leaves_nothing_that_counts(whole, tiny_train, tmp_path):
    folder = tmp_path / "killed"
    first = Fit(folder, tiny_train)
    with pytest.raises(InterruptedError):
        first.run(stop_after=5)
    half = first.place.checkpoints / ".step_00000006.x.partial"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"half a file")
    resumed = Fit(folder, tiny_train)
    resumed.run()
    assert equal(resumed, whole)
    assert not half.exists()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", [cut_short, flip_a_byte, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(whole, tiny_train, tmp_path, damage, name):
    fit = Fit(tmp_path, tiny_train)
    with pytest.raises(InterruptedError):
        fit.run(stop_after=5)
    damage(fit.place.checkpoints / "step_00000004" / name)
    resumed = Fit(tmp_path, tiny_train)
    with pytest.warns(UserWarning, match=r"step_00000004: this checkpoint cannot be read.* the one before"):
        resumed.run()
    assert equal(resumed, whole)


def test_nothing_is_trained_anew_when_all_checkpoints_are_damaged(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train)
    with pytest.raises(InterruptedError):
        fit.run(stop_after=5)
    for path in fit.place.checkpoints.rglob("tensors.safetensors"):
        cut_short(path)
    with (
        pytest.warns(UserWarning, match="step_00000004"),
        pytest.raises(CheckpointError, match=r"step_00000002: .* cannot be read.*Delete it"),
    ):
        Fit(tmp_path, tiny_train).run()


def test_checkpoints_left_by_a_kill_while_old_ones_are_removed_are_removed_by_the_rerun(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train)
    fit.run()
    kept = {path.name for path in fit.place.checkpoints.glob("step_*")}
    shutil.copytree(fit.place.checkpoints / max(kept), fit.place.checkpoints / "step_00000001")
    Fit(tmp_path, tiny_train).run()
    assert {path.name for path in fit.place.checkpoints.glob("step_*")} == kept


def test_checkpoints_hold_only_what_is_trained(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train)
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    state = TrainState({"network": fit.network, "frozen": frozen}, fit.state.optimizer)
    checkpoint.save(tmp_path / "checkpoints", state)
    assert not [name for name in state.tensors() if name.startswith("frozen")]
    assert checkpoint.resume(tmp_path / "checkpoints", state)
    assert not checkpoint.resume(tmp_path / "nowhere", state)


def poisoned(fit: Fit, step: int, value: float) -> None:
    """Makes the loss of a step, counted from 1, that value."""
    losses, seen = fit.losses, []

    def changed(batch: MotionBatch) -> Losses:
        seen.append(batch)
        loss, parts = losses(batch)
        return (loss * 0 + value if len(seen) == step else loss), parts

    fit.losses = changed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2e4])
def test_a_run_that_diverges_stops_and_writes_down_the_very_batch(tiny_train, tmp_path, value):
    """Found at the next look, several steps later, without a look at every step."""
    fit = Fit(tmp_path, tiny_train, log_every=8, max_loss=1e4)
    fit.training = replace(fit.training, checkpoint_every=100)
    poisoned(fit, 3, value)
    with pytest.raises(DivergenceError, match=rf"step 3's loss is .*{fit.source[2].keys[0]}.*fit_divergence.json"):
        fit.run()
    written = json.loads((tmp_path / "fit_divergence.json").read_text())
    assert written["step"] == 3
    assert [entry["clip"] for entry in written["batch"]] == fit.source[2].keys
    assert [entry["caption"] for entry in written["batch"]] == fit.source[2].captions


def test_a_large_loss_below_the_limit_is_no_divergence(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train, log_every=8, max_loss=1e4)
    poisoned(fit, 3, 9e3)
    fit.run()
    assert not (tmp_path / "fit_divergence.json").exists()


def test_weights_that_are_lost_are_not_saved(tiny_train, tmp_path):
    """A step whose loss is a number may still destroy the weights: the last checkpoint is from before it."""
    fit = Fit(tmp_path, tiny_train, log_every=8)
    losses, seen = fit.losses, []

    def changed(batch: MotionBatch) -> Losses:
        seen.append(batch)
        loss, parts = losses(batch)
        return loss + (0 * fit.network[0].bias.sum()).sqrt() if len(seen) == 6 else loss, parts

    fit.losses = changed
    with pytest.raises(DivergenceError, match="step 6's gradients have left weights that are not finite"):
        fit.run()
    assert [path.name for path in sorted(fit.place.checkpoints.iterdir())] == ["step_00000002", "step_00000004"]
