"""Seconds of a pocket-size training step with several ways of OpenMP waiting, on an idle and on a busy machine.

python benchmarks/waiting.py --rounds 5

OpenMP threads wait for each other at the end of every parallel loop. By default they spin for a while; if another
program holds the core of the thread that they wait for, they spin in vain. With OMP_WAIT_POLICY=PASSIVE they sleep at
once; with GOMP_SPINCOUNT they sleep after that many turns. The commands of this project set 1,000.
Each measurement is a process of its own, because the policy is read when torch is loaded. The variants alternate; the
busy machine runs one spinning process per core.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import tyro

# Name -> environment of the measured process.
VARIANTS = {
    "active (torch's default)": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1,000 spins": {"GOMP_SPINCOUNT": "1000"},
    "10,000 spins": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SPIN = "while True: pass"


@dataclass
class Options:
    """Time training steps with each way of waiting."""

    rounds: int = 5
    """Processes per variant and load."""
    steps: int = 15
    """Timed steps per process, after three steps of warm-up."""
    threads: int = os.cpu_count() or 2
    """OpenMP threads of the measured process, and number of competing processes."""
    measure: bool = False
    """Print the median seconds of a step in this process (used by the benchmark itself)."""


def step_seconds(steps: int) -> float:
    """Median seconds of a step: denoiser of 4 layers and 128 channels, GRU extractor, AdamW; 32 clips of 100 frames."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True)
    denoiser = nn.Sequential(nn.Linear(263 * 4, 128), nn.TransformerEncoder(layer, 4), nn.Linear(128, 263 * 4))
    extractor = nn.GRU(263, 128, batch_first=True, bidirectional=True)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-4)
    motion = torch.randn(32, 25, 263 * 4)
    target = extractor(motion.reshape(32, 100, 263))[1].detach()
    seconds = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        generated = denoiser(motion + torch.randn_like(motion))
        feedback = (extractor(generated.reshape(32, 100, 263))[1] - target).square().mean()
        ((generated - motion).square().mean() + feedback).backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[3:])


@contextmanager
def competitors(number: int) -> Iterator[None]:
    """Keep that many processes spinning."""
    running = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measured(options: Options, settings: dict[str, str]) -> float:
    """The median step of a fresh process with these environment variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = inherited | {"OMP_NUM_THREADS": str(options.threads)} | settings
    command = [sys.executable, __file__, "--measure", "--steps", str(options.steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(options: Options) -> None:
    """Print a table of medians, or the figure of this process."""
    if options.measure:
        print(step_seconds(options.steps))
        return
    print(f"{os.cpu_count()} cores, {options.threads} threads; load before: {os.getloadavg()[0]:.1f}\n")
    print("| load | waiting | median seconds per step | range | × passive |\n|---|---|--:|--:|--:|")
    for load, number in (("no competitors", 0), (f"{options.threads} competitors", options.threads)):
        found: dict[str, list[float]] = {name: [] for name in VARIANTS}
        with competitors(number):
            for _ in range(options.rounds):
                for name, settings in VARIANTS.items():
                    found[name].append(measured(options, settings))
        passive = statistics.median(found["passive"])
        for name, seconds in found.items():
            median = statistics.median(seconds)
            print(
                f"| {load} | {name} | {median:.3f} | {min(seconds):.3f}–{max(seconds):.3f} | {median / passive:.2f} |"
            )


if __name__ == "__main__":
    main(tyro.cli(Options))
