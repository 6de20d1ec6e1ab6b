"""Real processes: killed ones that go on, and two that compute what one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import settings_of

RUN = Path(__file__).resolve().parents[2] / "adaqf_train" / "run.py"
pytestmark = pytest.mark.slow
TIMEOUT = 240  # seconds; a single start costs up to ten on a busy machine


def command(data: Path, out: Path, settings: list[str]) -> list[str]:
    return [
        str(RUN),
        "train",
        "--arm",
        "adaqf",
        "--recipe",
        "pocket",
        "--data",
        str(data),
        "--out",
        str(out),
        *settings,
    ]


def environment(**extra: str) -> dict[str, str]:
    # Networks of this size run fastest on one thread, and a busy machine punishes a second one.
    return os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | extra


def steps_in(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.is_file() else 0


def run_until(arguments: list[str], log: Path, steps: int) -> None:
    """Starts training and kills it the hard way once its log has that many lines."""
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + TIMEOUT
    while steps_in(log) < steps:
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()


def run(arguments: list[str], **extra: str) -> None:
    done = subprocess.run([sys.executable, *arguments], env=environment(**extra), capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_a_run_killed_again_and_again_ends_with_the_same_weights(tiny_data, tiny_config, tmp_path):
    settings = settings_of(
        tiny_config, extractors__steps=30, training__steps=60, training__checkpoint_every=7, training__drop_at=40
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(command(tiny_data, whole, settings))
    arguments = command(tiny_data, killed, settings)
    run_until(arguments, killed / "logs" / "extractors.jsonl", 2)
    run_until(arguments, killed / "logs" / "adaqf.jsonl", 10)
    run_until(arguments, killed / "logs" / "adaqf.jsonl", 33)
    run(arguments)
    for name in (
        "adaqf/denoiser.safetensors",
        "adaclip/adapter_model.safetensors",
        "extractors/model.safetensors",
        "pocket_clip/model.safetensors",
    ):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert (killed / "logs" / "adaqf.jsonl").read_text() == (whole / "logs" / "adaqf.jsonl").read_text()
    assert not list(killed.rglob("*.partial"))
    other = tmp_path / "other"  # control: the weights do depend on what was trained
    run(command(tiny_data, other, [*settings, "--set", "training.seed=1"]))
    assert (other / "adaqf/denoiser.safetensors").read_bytes() != (whole / "adaqf/denoiser.safetensors").read_bytes()


def test_two_processes_compute_the_losses_of_one(tiny_data, tiny_config, tmp_path):
    """Same global batch, dropout 0: InfoNCE sees the global batch, gradients are averaged over all of it."""
    still = {f"{part}__dropout": 0.0 for part in ("extractors", "evaluator", "denoiser")}
    settings = settings_of(tiny_config, extractors__steps=6, **still)
    one, two = tmp_path / "one", tmp_path / "two"
    run(command(tiny_data, one, settings))
    run(
        [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            *command(tiny_data, two, settings),
        ],
        ACCELERATE_USE_CPU="true",
    )
    stages = json.loads((two / "stages.json").read_text())
    assert {stage["processes"] for stage in stages.values()} == {2}
    assert {s["processes"] for s in json.loads((one / "stages.json").read_text()).values()} == {1}
    for name in ("pocket_clip", "extractors", "adaqf"):
        a, b = (
            [json.loads(line) for line in (out / "logs" / f"{name}.jsonl").read_text().splitlines()]
            for out in (one, two)
        )
        assert [line["step"] for line in a] == [line["step"] for line in b]
        assert len(a) > 0
        for x, y in zip(a, b, strict=True):
            for key in x:
                assert x[key] == pytest.approx(y[key], abs=1e-5), (name, x, y)
        assert len({line["loss"] for line in a}) == len(a)  # control: the losses do move


def test_a_second_writer_is_refused_with_the_firsts_pid(tiny_data, tiny_config, tmp_path):
    out = tmp_path / "run"
    arguments = command(tiny_data, out, settings_of(tiny_config, training__steps=100_000))
    first = subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while steps_in(out / "logs" / "adaqf.jsonl") < 3:
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = subprocess.run([sys.executable, *arguments], env=environment(), capture_output=True, timeout=TIMEOUT)
        assert second.returncode == 1
        message = second.stderr.decode().strip().splitlines()[-1]
        assert message.startswith("error: ")
        assert f"process {first.pid} is writing this run" in message
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
