"""The environment of a process, set before torch is loaded."""

from __future__ import annotations

import os

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_passively() -> None:
    """Let OpenMP threads sleep while they wait for each other, unless the user set a variable of `WAITING`.

    Threads that spin at barriers slow training down many times as soon as another program takes one of the cores.
    OpenMP reads the variable when torch is loaded, so entry points call this first.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
