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
from tests.processes import AT_START, TIMEOUT, Python, run

RUN = Path(__file__).resolve().parents[2] / "adaqf_train" / "run.py"
STILL = {f"{part}__dropout": 0.0 for part in ("extractors", "evaluator", "joint_evaluator", "denoiser")}
FEW = ["--set", "training.steps=6"]
pytestmark = pytest.mark.slow


def command(data: Path, out: Path, settings: list[str]) -> list[str]:
    place = ["--data", str(data), "--out", str(out)]
    return [str(RUN), "train", "--arm", "adaqf", "--recipe", "pocket", *place, *settings]


def start_ranks(arguments: list[str]) -> list[Python]:
    """Start two processes of one training, as torchrun does."""
    both = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2))
    return [Python(*arguments, ACCELERATE_USE_CPU="true", **both, **rank) for rank in ranks]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(process: Python, log: Path, steps: int) -> None:
    """Wait until a running process has logged so many steps."""
    deadline = time.monotonic() + TIMEOUT
    while len(lines(log)) < steps:
        assert process.running, process.read("stderr")[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run_until(arguments: list[str], log: Path, steps: int) -> None:
    """Start training and kill it the hard way once its log has that many lines."""
    process = Python(*arguments)
    wait_for(process, log, steps)
    os.kill(process.pid, signal.SIGKILL)
    assert process.done().returncode == -signal.SIGKILL


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.is_file() else []


def losses(out: Path, stage: str = "adaqf") -> list[dict]:
    return [json.loads(line) for line in lines(out / "logs" / f"{stage}.jsonl")]


def assert_same_losses(one: Path, two: Path, *stages: str, steps: int | None = None) -> None:
    """Compare every logged step; steps: of `two`, where it trained fewer."""
    for stage in stages:
        for a, b in zip(losses(one, stage)[:steps], losses(two, stage), strict=True):
            assert a == pytest.approx(b, rel=FLOAT32, abs=1e-5), stage


@pytest.fixture(scope="module")
def still(tiny_config) -> list[str]:
    """Settings of a training without dropout, whose losses do not depend on the number of processes."""
    steps = {"training__steps": 50, "training__checkpoint_every": 1000, "training__drop_at": 40}
    return settings_of(tiny_config, extractors__steps=6, **steps, **STILL)


@pytest.fixture(scope="module")
def one(tiny_data, still, tmp_path_factory) -> Path:
    """What one process trained at one go."""
    out = tmp_path_factory.mktemp("one") / "run"
    run(*command(tiny_data, out, still))
    for stage in ("pocket_clip", "extractors", "adaqf"):
        found = losses(out, stage)
        assert len({line["loss"] for line in found}) == len(found) > 0  # control: the losses do move
    assert {s["processes"] for s in RunLayout(out).stages().values()} == {1}
    return out


def test_a_run_killed_again_and_again_ends_with_the_same_weights(tiny_data, tiny_config, tmp_path):
    settings = settings_of(
        tiny_config, extractors__steps=12, training__steps=30, training__checkpoint_every=4, training__drop_at=20
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(*command(tiny_data, whole, settings))
    arguments = command(tiny_data, killed, settings)
    run_until(arguments, killed / "logs" / "extractors.jsonl", 2)
    run_until(arguments, killed / "logs" / "adaqf.jsonl", 6)
    run_until(arguments, killed / "logs" / "adaqf.jsonl", 17)
    run(*arguments)
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
    run(*command(tiny_data, other, [*settings, "--set", "training.seed=1"]))
    assert (other / "adaqf/model.safetensors").read_bytes() != (whole / "adaqf/model.safetensors").read_bytes()


def test_two_processes_compute_the_losses_of_one(tiny_data, still, one, tmp_path):
    """Same global batch, dropout 0: InfoNCE sees the global batch, gradients are averaged over all of it."""
    for rank in start_ranks([*command(tiny_data, tmp_path / "two", still), *FEW]):
        done = rank.done()
        assert done.returncode == 0, done.stderr[-2000:]
    assert {stage["processes"] for stage in RunLayout(tmp_path / "two").stages().values()} == {2}
    assert_same_losses(one, tmp_path / "two", "pocket_clip", "extractors", "adaqf", steps=6)


def saved_step(out: Path) -> int:
    saved = max(out.glob("checkpoints/adaqf/*/step_*"))
    return int(saved.name.removeprefix("step_"))


def test_sigterm_to_the_training_process_loses_no_step_and_exits_with_0(tiny_data, tiny_config, tmp_path):
    settings = settings_of(tiny_config, training__steps=300, training__checkpoint_every=1000)
    out = tmp_path / "run"
    process = Python(*command(tiny_data, out, settings))
    wait_for(process, out / "logs" / "adaqf.jsonl", 10)
    os.kill(process.pid, signal.SIGTERM)
    done = process.done()
    assert done.returncode == 0
    step = saved_step(out)
    assert 10 <= step < 300
    assert f"adaqf: stopped after step {step}; it is saved" in done.stderr
    assert [line["step"] for line in losses(out)] == list(range(1, step + 1))


def test_two_processes_told_to_stop_agree_on_the_step_and_one_goes_on(tiny_data, still, one, tmp_path):
    """One is told, both stop; over 50 steps the losses are those of a run that one process made at one go."""
    two = tmp_path / "two"
    ranks = start_ranks(command(tiny_data, two, still))
    wait_for(ranks[0], two / "logs" / "adaqf.jsonl", 5)
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert [rank.done().returncode for rank in ranks] == [0, 0]
    step = saved_step(two)
    assert 5 <= step < 50
    assert [line["step"] for line in losses(two)] == list(range(1, step + 1))
    run(*command(tiny_data, two, still))
    stages = RunLayout(two).stages()
    assert (stages["extractors"]["processes"], stages["adaqf"]["processes"]) == (2, 1)
    assert_same_losses(one, two, "adaqf")


def test_two_nodes_compute_the_losses_of_one(tiny_data, still, one, tmp_path):
    """The launch over several machines, both of them this one; torchrun starts fresh interpreters."""
    two = tmp_path / "two"
    endpoint = ["--rdzv_backend", "c10d", "--rdzv_id", "adaqf", "--rdzv_endpoint", f"127.0.0.1:{free_port()}"]
    nodes = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", *endpoint]
    launch = [*nodes, "--local_addr", "127.0.0.1", *command(tiny_data, two, still), *FEW]
    variables = os.environ | AT_START | {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, *launch], env=variables, **pipes) for _ in range(2)]
    for node in started:
        _, messages = node.communicate(timeout=TIMEOUT)
        assert node.returncode == 0, messages[-2000:]
    assert RunLayout(two).stages()["adaqf"]["processes"] == 2
    assert_same_losses(one, two, "adaqf", steps=6)


def check_lost(messages: str, out: Path) -> None:
    """One line that says what to do, and a checkpoint to continue from."""
    (line,) = [line for line in messages.splitlines() if line.startswith("error")]
    assert "Another process of this command ended (" in line
    assert line.endswith("Run the same command again: training continues from the newest checkpoint.")
    assert list(out.glob("checkpoints/adaqf/*/step_*"))
    assert not (out / ".pid").exists() or "(process 1)" in line


SOME = ["--set", "training.steps=14", "--set", "training.checkpoint_every=4"]


def test_a_killed_process_ends_the_other_and_both_continue(tiny_data, still, one, tmp_path):
    two = tmp_path / "two"
    arguments = [*command(tiny_data, two, still), *SOME]
    ranks = start_ranks(arguments)
    wait_for(ranks[0], two / "logs" / "adaqf.jsonl", 6)
    os.kill(ranks[1].pid, signal.SIGKILL)
    done = ranks[0].done(timeout=60)
    assert (done.returncode, ranks[1].done().returncode) == (1, -signal.SIGKILL)
    assert "Traceback" not in done.stderr
    check_lost(done.stderr, two)
    assert 4 <= saved_step(two) < 14
    for rank in start_ranks(arguments):
        assert rank.done().returncode == 0
    assert_same_losses(one, two, "adaqf", steps=14)


@pytest.mark.skipif("ADACLIP_LONG" not in os.environ, reason="starts fresh interpreters: set ADACLIP_LONG=1")
@pytest.mark.parametrize("killed", ["0", "1"])
def test_torchrun_ends_after_a_killed_process_and_continues(tiny_data, still, one, tmp_path, killed):
    two = tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += [*command(tiny_data, two, still), *SOME]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    variables = os.environ | AT_START | {"ACCELERATE_USE_CPU": "true"}
    started = subprocess.Popen(launch, env=variables, **pipes)
    deadline = time.monotonic() + TIMEOUT
    while len(lines(two / "logs" / "adaqf.jsonl")) < 6:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    ranks = {child: Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
    (process,) = [child for child, variables in ranks.items() if f"RANK={killed}".encode() in variables]
    os.kill(int(process), signal.SIGKILL)
    _, messages = started.communicate(timeout=60)
    assert started.returncode == 1
    check_lost(messages, two)
    assert subprocess.run(launch, env=variables, timeout=TIMEOUT, **pipes).returncode == 0
    assert_same_losses(one, two, "adaqf", steps=14)


def test_a_second_writer_is_refused_with_the_firsts_pid(tiny_data, tiny_config, tmp_path):
    out = tmp_path / "run"
    arguments = command(tiny_data, out, settings_of(tiny_config, training__steps=100_000))
    first = Python(*arguments)
    try:
        wait_for(first, out / "logs" / "adaqf.jsonl", 3)
        second = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT)
        assert second.returncode == 1
        message = second.stderr.strip().splitlines()[-1]
        assert message.startswith("error: ")
        assert f"process {first.pid} is writing this run" in message
        assert first.running
    finally:
        first.process.kill()
        first.done()
