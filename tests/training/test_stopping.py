"""SIGTERM between two steps, and disks that take no more: nothing that was done is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaqf_train.errors import CheckpointError, TrackingError, TrainingStopped
from adaqf_train.training.loop import Place
from adaqf_train.training.stopping import StopSignal
from tests.training.small_fit import Fit, equal


def signalled(fit: Fit, step: int) -> None:
    """Sends this process SIGTERM while the loss of a step, counted from 1, is computed."""
    losses, seen = fit.losses, []

    def changed(batch):
        seen.append(batch)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(batch)

    fit.losses = changed


@pytest.mark.parametrize("step", [1, 5, 9])
def test_sigterm_ends_training_after_the_step_at_hand_and_loses_none(tiny_train, tmp_path, step):
    before = signal.getsignal(signal.SIGTERM)
    whole, stopped, resumed = (Fit(tmp_path / n, tiny_train) for n in ("whole", "again", "again"))
    whole.run()
    signalled(stopped, step)
    with pytest.raises(TrainingStopped, match=f"stopped after step {step}; it is saved"):
        stopped.run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert (stopped.place.checkpoints / f"step_{step:08d}").is_dir()
    first = []
    losses = resumed.losses
    resumed.losses = lambda batch: first.append(batch.keys) or losses(batch)
    resumed.run()
    assert len(first) == 9 - step  # no step is made twice
    assert equal(resumed, whole)
    assert not equal(stopped, whole) or step == 9


def test_the_signal_is_noted_inside_only_and_elsewhere_nothing_breaks():
    with StopSignal() as stop:
        assert not stop.received
        signal.raise_signal(signal.SIGTERM)
        assert stop.received
    received = []

    def aside() -> None:
        with StopSignal() as other:
            received.append(other.received)

    thread = threading.Thread(target=aside)
    thread.start()
    thread.join()
    assert received == [False]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of its own with room for little."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def on_disk(disk: Path, elsewhere: Path, dataset) -> Fit:
    """A fit that has its checkpoints on the disk and its log elsewhere."""
    fit = Fit(elsewhere, dataset)
    fit.place = Place(fit.place.log, disk / "checkpoints")
    return fit


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_no_more_leaves_the_checkpoint_before(small_disk, tiny_train, tmp_path, how):
    whole = Fit(tmp_path / "whole", tiny_train)
    whole.run()
    fit = on_disk(small_disk, tmp_path / "log", tiny_train)
    with pytest.raises(InterruptedError):
        fit.run(stop_after=5)
    ballast = small_disk / "ballast"
    if how == "full":
        ballast.write_bytes(b"0" * shutil.disk_usage(small_disk).free)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(CheckpointError, match=r"step_00000006: the checkpoint of step 6 cannot be written \(.* whole"):
        on_disk(small_disk, tmp_path / "log", tiny_train).run()
    assert sorted(p.name for p in (small_disk / "checkpoints").iterdir()) == ["step_00000002", "step_00000004"]
    if how == "full":
        ballast.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    resumed = on_disk(small_disk, tmp_path / "log", tiny_train)
    resumed.run()
    assert equal(resumed, whole)


def test_a_log_that_cannot_be_written_is_named(tiny_train, tmp_path):
    (tmp_path / "fit.jsonl").mkdir()
    with pytest.raises(TrackingError, match=r"fit.jsonl: the losses cannot be written \(Is a directory\)"):
        Fit(tmp_path, tiny_train).run()
