"""What comes before torch is loaded: the environment of the process, and names that are imported at their first use."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SPINS = "1000"  # a few microseconds; libgomp's own 300,000 are a millisecond


def limit_spinning() -> None:
    """Let OpenMP threads spin only briefly while they wait for each other, unless the user set a variable of `WAITING`.

    Threads that spin for long at barriers slow training down many times as soon as another program takes one of the
    cores. Threads that sleep at once (OMP_WAIT_POLICY=PASSIVE) slow it down on an idle machine: a step at pocket size
    takes 1.7 times as long (benchmarks/waiting.py). OpenMP reads the variable when torch is loaded, so entry points
    call this first.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def lazy(package: str, **home: str) -> Callable[[str], object]:
    """Return a package's `__getattr__`; `home` gives the module of each public name, which is slow to import."""

    def load(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home[name]), name)

    return load
