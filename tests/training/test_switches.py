"""Each switch of the training does what it says."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from adaclip import AdaCLIP, AdaCLIPError
from adaclip.integrity import write_sealed
from adaqf_train.cli import main
from adaqf_train.config import DataConfig, FeedbackConfig, TrainingConfig, override
from adaqf_train.data.batches import StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import ConfigError, DataError, TrackingError
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.generators.mdm.feedback import Feedback
from adaqf_train.runs.layout import RunLayout
from adaqf_train.training import checkpoint
from adaqf_train.training.checkpoint import TrainState
from adaqf_train.training.step import Step
from tests.helpers import FLOAT32, settings_of
from tests.training.small_fit import Fit, equal

PROMPTS = ["a person walks", "a person waves the left hand twice"]


def rates(**settings) -> list[float]:
    training, network = TrainingConfig(ema=None, **settings), torch.nn.Linear(1, 1)
    state = TrainState({"network": network}, torch.optim.SGD(network.parameters(), lr=1.0))
    step = Step(Accelerator(cpu=True), network, state, training)
    return [step.rate(number) for number in range(8)]


def test_the_learning_rate_rises_and_drops_where_it_is_told():
    assert rates(warmup=4, drop_at=6, drop_by=0.1) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1])
    assert rates(warmup=0, drop_at=2, drop_by=0.5) == [1, 1, *[0.5] * 6]
    assert rates(drop_at=None) == [1] * 8


def test_gradients_are_clipped_at_the_norm_that_is_set(tiny_train, tmp_path):
    moved = {}
    for clip in (None, 1e-6):
        fit = Fit(tmp_path / str(clip), tiny_train, clip_norm=clip)
        fit.state.optimizer = torch.optim.SGD(fit.network.parameters(), lr=1.0)
        before = [p.detach().clone() for p in fit.network.parameters()]
        fit.training = replace(fit.training, steps=1, ema=None, drop_at=None)
        fit.steps = 1
        fit.run()
        change = [(p - b).flatten() for p, b in zip(fit.network.parameters(), before, strict=True)]
        moved[clip] = torch.cat(change).norm().item()
    assert moved[1e-6] == pytest.approx(1e-6, rel=0.1)
    assert moved[None] > 1e-3


def test_a_batch_in_parts_trains_as_the_whole_does(fit, tiny_train, tiny_config, tmp_path):
    """Without dropout, whose masks are drawn for each part; the log has the mean over the parts."""
    still = override(tiny_config, ["denoiser.dropout=0.0", "training.learning_rate=1e-4"])
    logs = []
    for number in (1, 4):
        config = replace(still, training=replace(still.training, accumulate=number))
        fit(tiny_train, config, tmp_path / str(number))
        logs.append([json.loads(line) for line in (tmp_path / str(number) / "adaqf.jsonl").read_text().splitlines()])
    for whole, parts in zip(*logs, strict=True):
        assert whole == pytest.approx(parts, rel=FLOAT32, abs=1e-5)
    assert len({line["loss"] for line in logs[0]}) == len(logs[0])


def test_as_many_checkpoints_are_kept_as_asked_for(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train, keep=3)
    fit.run()
    assert len(list(fit.place.checkpoints.iterdir())) == 3


def test_the_scaler_of_half_precision_is_part_of_a_checkpoint(tiny_train, tmp_path):
    fit = Fit(tmp_path, tiny_train)
    saved, fresh = (torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in range(2))
    saved.scale(torch.ones(1))  # it makes its tensors when it is first used
    saved.update(new_scale=8.0)
    state = TrainState({"network": fit.network}, fit.state.optimizer, scaler=saved, step=3)
    checkpoint.save(tmp_path / "c", state)
    other = TrainState({"network": fit.network}, fit.state.optimizer, scaler=fresh)
    assert fresh.get_scale() == 1024
    assert checkpoint.resume(tmp_path / "c", other)
    assert (other.step, fresh.get_scale()) == (3, 8.0)


def test_bfloat16_trains_and_gives_other_losses(tiny_train, tmp_path, monkeypatch):
    logs = {}
    for precision in ("no", "bf16"):
        fit = Fit(tmp_path / precision, tiny_train)
        monkeypatch.setattr(AcceleratorState, "_shared_state", {})  # else it stays what the first one in a process was
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        fit.run(accelerator=accelerator)
        logs[precision] = [json.loads(line)["loss"] for line in fit.place.log.read_text().splitlines()]
        assert all(p.dtype == torch.float32 for p in fit.network.parameters())
    assert logs["no"] != logs["bf16"]
    assert logs["no"] == pytest.approx(logs["bf16"], rel=0.1)


@pytest.mark.parametrize(("last", "heard"), [(None, [1, 1, 1]), (1, [1, 1, 0]), (0, [1, 0, 0])])
def test_feedback_ends_at_the_timestep_that_is_set(tiny_train, last, heard):
    class Means(torch.nn.Module):
        def embed_motion(self, motion, mask):
            return motion.mean(dim=1)

        def embed_captions(self, captions):
            return torch.ones(3, 263)

    batch = StepBatches(tiny_train, 3, 0)[0]
    batch = replace(batch, timestep=torch.tensor([0, 1, 2]), caption=torch.arange(3))
    feedback = Feedback(Means(), FeedbackConfig(on_dropped_text=True, max_timestep=last), torch.ones(3), None)
    for part in feedback(batch.noise, batch):
        assert (part != 0).tolist() == [bool(value) for value in heard]


def test_few_clips_are_drawn_by_seed_and_nested_and_from_train_alone(tiny_data):
    def clips(samples: int | None, seed: int = 0, split: str = "train") -> list[str]:
        dataset = MotionDataset(tiny_data, split, DataConfig(samples=samples, samples_seed=seed))
        return [item.clip for item in dataset.items]

    everything = clips(None)
    few, more = clips(5), clips(12)
    assert len(few) == 5
    assert set(few) < set(more) < set(everything)
    assert few == clips(5)
    assert set(few) != set(clips(5, seed=1))
    assert clips(5, split="val") == clips(None, split="val")
    assert clips(len(everything)) == everything
    with pytest.raises(DataError, match=rf"train.txt: {len(everything)} clips can be used, fewer than data.samples"):
        clips(len(everything) + 1)


def run_train(tiny_data, config, out, *settings: str) -> int:
    chosen = [part for setting in settings for part in ("--set", setting)]
    command = ["train", "--arm", "adaqf", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out)]
    return main([*command, *settings_of(config), *chosen])


def test_with_few_clips_the_extractors_still_learn_from_all(tiny_data, tiny_run, tiny_config, tmp_path):
    """Their stages are those of a run on everything; the switch makes them learn from the few."""
    few = ("--reuse", str(tiny_run))
    command = ["train", "--arm", "adaqf", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(tmp_path / "a")]
    settings = [*settings_of(tiny_config), "--set", "data.samples=10"]
    assert main([*command, *settings, *few]) == 0
    everything, a = (json.loads((run / "stages.json").read_text()) for run in (tiny_run, tmp_path / "a"))
    assert a["extractors"]["digest"] == everything["extractors"]["digest"]
    assert a["adaqf"]["settings"]["train"] != everything["adaqf"]["settings"]["train"]
    command[-1] = str(tmp_path / "b")
    assert main([*command, *settings, *few, "--set", "extractors.full_set=false"]) == 0
    b = json.loads((tmp_path / "b" / "stages.json").read_text())
    assert b["extractors"]["settings"]["train"] == a["adaqf"]["settings"]["train"]


def test_a_whole_encoder_is_tuned_saved_and_loaded(tiny_data, tiny_run, tiny_config, tmp_path, capsys):
    out = tmp_path / "full"
    shutil.copytree(tiny_run, out, ignore=shutil.ignore_patterns("adaqf", "adaclip", "checkpoints", "logs"))
    stages = RunLayout(out).stages()
    del stages["adaqf"]
    write_sealed(out / "stages.json", stages)
    assert run_train(tiny_data, tiny_config, out, "encoder.tuning=full") == 0
    assert "a whole text model, not an adapter" in " ".join(capsys.readouterr().out.split())
    generator = MotionGenerator.from_pretrained(out / "adaqf")
    tuned = generator.encoder.encode(PROMPTS)
    before = AdaCLIP.from_base(out / "pocket_clip").encode(PROMPTS)
    assert (tuned - before).abs().max() > 1e-6
    assert torch.equal(AdaCLIP.from_base(out / "adaclip").encode(PROMPTS), tuned)
    assert "the text encoder in `base/`." in (out / "adaqf" / "README.md").read_text()
    generator.save_pretrained(tmp_path / "again")  # with its base, which is now a folder like any other
    assert torch.equal(MotionGenerator.from_pretrained(tmp_path / "again").encoder.encode(PROMPTS), tuned)
    stored = load_file(out / "adaqf" / "encoder" / "adapter_model.safetensors")
    assert all(value.abs().max() == 0 for name, value in stored.items() if "lora_B" in name)
    with pytest.raises(AdaCLIPError, match=r"It holds a whole model: load a CLIP text encoder with AdaCLIP.from_base"):
        AdaCLIP.from_pretrained(out / "adaclip")


def test_what_the_weights_do_not_depend_on_is_no_reason_to_train_again(tiny_data, tiny_run, tiny_config, tmp_path):
    out = shutil.copytree(tiny_run, tmp_path / "run")
    before = (out / "stages.json").read_text()
    same = ("training.trackers=", "training.keep=5", "training.log_every=3", "training.checkpoint_every=4")
    assert run_train(tiny_data, tiny_config, out, *same) == 0
    assert (out / "stages.json").read_text() == before
    assert run_train(tiny_data, tiny_config, out, "training.warmup=2") == 1  # control: these they depend on


def events(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, round(e.value, 6)) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_the_trackers_of_a_resumed_run_are_those_of_an_uninterrupted_one(tiny_train, tmp_path):
    whole, first, second = (
        Fit(tmp_path / name, tiny_train, trackers=("tensorboard",)) for name in ("whole", "again", "again")
    )
    whole.run()
    with pytest.raises(InterruptedError):
        first.run(stop_after=7)  # the checkpoint is of step 6
    time.sleep(1.1)  # files of events are read in the order of the seconds they were begun in
    second.run()
    expected = events(tmp_path / "whole" / "fit")
    assert {"loss", "grad_norm", "learning_rate"} == expected.keys()
    assert [step for step, _ in expected["loss"]] == list(range(1, 10))
    assert events(tmp_path / "again" / "fit") == expected
    none = Fit(tmp_path / "none", tiny_train, trackers=())
    none.run()
    assert not (tmp_path / "none" / "fit").exists()
    assert equal(none, whole)


def test_wandb_can_be_used_offline(tiny_train, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    fit = Fit(tmp_path, tiny_train, trackers=("wandb",))
    fit.run()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_a_tracker_that_is_not_there_is_named(tiny_train, tiny_data, tiny_config, tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match=r"training\.trackers must be one of tensorboard, wandb, got"):
        override(tiny_config, ["training.trackers=mlflow"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run_train(tiny_data, tiny_config, tmp_path / "run", "training.trackers=tensorboard,wandb") == 1
    error = capsys.readouterr().err
    assert "names wandb, which is not installed. Install it (pip install wandb)" in error
    assert not (tmp_path / "run" / "stages.json").exists()  # before anything is trained


def test_a_tracker_that_refuses_is_named(tiny_train, tmp_path, monkeypatch):
    from accelerate.tracking import TensorBoardTracker

    def refuse(self) -> None:
        raise RuntimeError("api_key not configured (no-tty)")

    monkeypatch.setattr(TensorBoardTracker, "start", refuse)
    with pytest.raises(TrackingError, match=r"cannot be used \(api_key not configured .*WANDB_MODE=offline"):
        Fit(tmp_path, tiny_train, trackers=("tensorboard",)).run()


def test_the_live_line_has_losses_norm_speed_and_what_remains(tiny_train, tmp_path, capsys):
    Fit(tmp_path, tiny_train).run()
    line = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    for part in ("fit: 100%", "9/9", "<", "step/s", "loss=", "grad_norm="):
        assert part in line


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.slow
def test_a_compiled_denoiser_trains_to_the_same_losses(fit, tiny_train, tiny_config, tmp_path):
    still = override(tiny_config, ["denoiser.dropout=0.0", "training.steps=2", "training.batch=4"])
    still = replace(still, denoiser=replace(still.denoiser, layers=1))
    logs = []
    for compiled in (False, True):
        config = replace(still, training=replace(still.training, compile=compiled))
        generator = fit(tiny_train, config, tmp_path / str(compiled))
        generator.save_pretrained(tmp_path / f"{compiled}_saved")
        logs.append([json.loads(line) for line in (tmp_path / str(compiled) / "adaqf.jsonl").read_text().splitlines()])
    for eager, made in zip(*logs, strict=True):
        assert eager == pytest.approx(made, abs=1e-4)
    MotionGenerator.from_pretrained(tmp_path / "True_saved")
