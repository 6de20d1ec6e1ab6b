"""The benchmark of sampling runs on a run's folder and says what it was asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def sampling(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(CHECKOUT / "benchmarks" / "sampling.py"), *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)


def test_the_sampling_benchmark_runs(tiny_run, tiny_data):
    place = ["--run", str(tiny_run), "--data", str(tiny_data), "--rounds", "1", "--replications", "2", "--batch", "4"]
    done = sampling(*place, "--settings", "ddpm:4", "dpm++:3")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\S+) \| (\d+) \| [\d.]+ \| [\d.]+ \| [\d.]+ ± [\d.]+ \| [\d.]+ ± ", done.stdout, re.M)
    assert rows == [("ddpm", "4"), ("dpm++", "3")]
    assert "in two passes" in done.stdout


def test_the_sampling_benchmark_says_what_is_missing(tmp_path):
    for arguments, message in (([], "Give --run"), (["--run", str(tmp_path)], "no such folder")):
        done = sampling(*arguments)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert message in done.stderr
