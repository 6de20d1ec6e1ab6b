"""Real processes: killed ones that go on, and two that compute what one does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaqf_train.runs.layout import RunLayout
from tests.helpers import FLOAT32, settings_of

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
        "adaqf/model.safetensors",
        "adaclip/adapter_model.safetensors",
        "extractors/model.safetensors",
        "pocket_clip/model.safetensors",
    ):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert (killed / "logs" / "adaqf.jsonl").read_text() == (whole / "logs" / "adaqf.jsonl").read_text()
    assert not list(killed.rglob("*.partial"))
    other = tmp_path / "other"  # control: the weights do depend on what was trained
    run(command(tiny_data, other, [*settings, "--set", "training.seed=1"]))
    assert (other / "adaqf/model.safetensors").read_bytes() != (whole / "adaqf/model.safetensors").read_bytes()


def test_two_processes_compute_the_losses_of_one(tiny_data, tiny_config, tmp_path):
    """Same global batch, dropout 0: InfoNCE sees the global batch, gradients are averaged over all of it."""
    still = {f"{part}__dropout": 0.0 for part in ("extractors", "evaluator", "joint_evaluator", "denoiser")}
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
    stages = RunLayout(two).stages()
    assert {stage["processes"] for stage in stages.values()} == {2}
    assert {s["processes"] for s in RunLayout(one).stages().values()} == {1}
    for name in ("pocket_clip", "extractors", "adaqf"):
        a, b = (
            [json.loads(line) for line in (out / "logs" / f"{name}.jsonl").read_text().splitlines()]
            for out in (one, two)
        )
        assert [line["step"] for line in a] == [line["step"] for line in b]
        assert len(a) > 0
        for x, y in zip(a, b, strict=True):
            for key in x:
                assert x[key] == pytest.approx(y[key], rel=FLOAT32, abs=1e-5), (name, x, y)
        assert len({line["loss"] for line in a}) == len(a)  # control: the losses do move


def lines(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def saved_step(out: Path) -> int:
    (saved,) = out.glob("checkpoints/adaqf/*/step_*")
    return int(saved.name.removeprefix("step_"))


def wait_for(process: subprocess.Popen, log: Path, steps: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while steps_in(log) < steps:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_sigterm_to_the_training_process_loses_no_step_and_exits_with_0(tiny_data, tiny_config, tmp_path):
    settings = settings_of(tiny_config, training__steps=300, training__checkpoint_every=1000)
    out = tmp_path / "run"
    arguments, log = command(tiny_data, out, settings), out / "logs" / "adaqf.jsonl"
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(process, log, 10)
    process.terminate()
    _, messages = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    step = saved_step(out)
    assert 10 <= step < 300
    assert f"adaqf: stopped after step {step}; it is saved" in messages
    assert [line["step"] for line in lines(log)] == list(range(1, step + 1))


def test_two_processes_told_to_stop_agree_on_the_step_and_one_goes_on(tiny_data, tiny_config, tmp_path):
    """One is told, both stop; over 50 steps the losses are those of a run that one process made at one go."""
    still = {f"{part}__dropout": 0.0 for part in ("extractors", "denoiser")}
    settings = settings_of(
        tiny_config, training__steps=50, training__checkpoint_every=1000, training__drop_at=40, **still
    )
    one, two = tmp_path / "one", tmp_path / "two"
    run(command(tiny_data, one, settings))
    log = two / "logs" / "adaqf.jsonl"
    launch = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        *command(tiny_data, two, settings),
    ]
    launcher = subprocess.Popen(
        [sys.executable, *launch],
        env=environment(ACCELERATE_USE_CPU="true"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(launcher, log, 5)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(children) == 2
    os.kill(int(children[1]), signal.SIGTERM)
    assert launcher.wait(TIMEOUT) == 0
    step = saved_step(two)
    assert 5 <= step < 50
    assert [line["step"] for line in lines(log)] == list(range(1, step + 1))
    run(command(tiny_data, two, settings))
    stages = RunLayout(two).stages()
    assert (stages["extractors"]["processes"], stages["adaqf"]["processes"]) == (2, 1)
    for a, b in zip(lines(one / "logs" / "adaqf.jsonl"), lines(log), strict=True):
        assert a == pytest.approx(b, rel=FLOAT32, abs=1e-5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_nodes_compute_the_losses_of_one(tiny_data, tiny_config, tmp_path):
    """The launch over several machines, both of them this one."""
    still = {f"{part}__dropout": 0.0 for part in ("extractors", "denoiser")}
    settings = settings_of(tiny_config, **still)
    one, two = tmp_path / "one", tmp_path / "two"
    run(command(tiny_data, one, settings))
    endpoint = ["--rdzv_backend", "c10d", "--rdzv_id", "adaqf", "--rdzv_endpoint", f"127.0.0.1:{free_port()}"]
    launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", *endpoint, "--local_addr"]
    nodes = [
        subprocess.Popen(
            [sys.executable, *launch, "127.0.0.1", *command(tiny_data, two, settings)],
            env=environment(ACCELERATE_USE_CPU="true", GLOO_SOCKET_IFNAME="lo"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for node in nodes:
        _, messages = node.communicate(timeout=TIMEOUT)
        assert node.returncode == 0, messages[-2000:]
    assert RunLayout(two).stages()["adaqf"]["processes"] == 2
    for a, b in zip(*(lines(out / "logs" / "adaqf.jsonl") for out in (one, two)), strict=True):
        assert a == pytest.approx(b, rel=FLOAT32, abs=1e-5)


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
