"""The benchmarks that need no data of their own run, and say what is missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import Python

CHECKOUT = Path(__file__).resolve().parent.parent


def benchmark(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return Python(str(CHECKOUT / "benchmarks" / f"{name}.py"), *arguments, folder=CHECKOUT).done()


def test_sampling_benchmark_runs(tiny_run, tiny_data):
    place = ["--run", str(tiny_run), "--data", str(tiny_data), "--rounds", "1", "--replications", "2", "--batch", "4"]
    done = benchmark("sampling", *place, "--settings", "ddpm:4", "dpm++:3")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\S+) \| (\d+) \| [\d.]+ \| [\d.]+ \| [\d.]+ ± [\d.]+ \| [\d.]+ ± ", done.stdout, re.M)
    assert rows == [("ddpm", "4"), ("dpm++", "3")]
    assert "in two passes" in done.stdout


def test_sampling_benchmark_says_what_is_missing(tmp_path):
    for arguments, message in (([], "Give --run"), (["--run", str(tmp_path)], "no such folder")):
        done = benchmark("sampling", *arguments)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert message in done.stderr


@pytest.mark.slow
def test_waiting_benchmark_measures_each_variant_under_both_loads(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("waiting_benchmark", CHECKOUT / "benchmarks" / "waiting.py")
    waiting = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, waiting)
    spec.loader.exec_module(waiting)
    assert len(waiting.VARIANTS) == 5
    variants = {name: waiting.VARIANTS[name] for name in ("passive", "1,000 spins")}  # each is a process
    monkeypatch.setattr(waiting, "VARIANTS", variants)
    waiting.main(waiting.Options(rounds=1, steps=1, threads=1))
    rows = re.findall(r"^\| (.+?) \| (.+?) \| [\d.]+ \|", capsys.readouterr().out, re.M)
    assert len(rows) == len(set(rows)) == 4  # two variants under two loads
    assert {name for _, name in rows} == set(variants)
    assert {load for load, _ in rows} == {"no competitors", "1 competitors"}


@pytest.mark.slow
def test_training_benchmark_compares_both_steps(tmp_path):
    small = ["--layers", "1", "--batch", "4", "--clips", "80", "--rounds", "1", "--shared", str(tmp_path)]
    done = benchmark("training", *small)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\| (AdaQF|plain) \| [\d.]+ \| [\d.]+ \|$", done.stdout, re.M) == ["AdaQF", "plain"]
    assert "procedural motions" in done.stdout
