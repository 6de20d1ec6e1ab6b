"""Seconds that the metrics of a full evaluation take, on random embeddings of HumanML3D's number and width.

python benchmarks/evaluation.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro

from adaqf_train.evaluation import metrics
from adaqf_train.evaluation.retrieval import retrieval


@dataclass(frozen=True)
class Options:
    rows: int = 4640
    """The official test pool: 145 batches of 32."""
    width: int = 512
    """The official evaluators' embedding size."""
    replications: int = 20
    seed: int = 0


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    rng = np.random.default_rng(options.seed)
    real = rng.standard_normal((options.rows, options.width))
    takes = real[:100, None] + 0.1 * rng.standard_normal((100, 30, options.width))  # MultiModality's 100 texts × 30
    seconds: dict[str, float] = {}

    def timed(name: str, function: Callable[[], object]) -> None:
        start = time.perf_counter()
        function()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

    for _ in range(options.replications):
        motion = real + 0.5 * rng.standard_normal(real.shape)
        text = real + 0.5 * rng.standard_normal(real.shape)
        timed("FID", lambda motion=motion: metrics.fid(real, motion))
        timed("R-precision", lambda text=text, motion=motion: metrics.r_precision(text, motion))
        timed("MM-dist", lambda text=text, motion=motion: metrics.mm_dist(text, motion))
        timed("Diversity", lambda motion=motion: metrics.diversity(motion, 300, rng))
        timed("MultiModality", lambda: metrics.multimodality(takes, 10, rng))
        timed("retrieval, whole set", lambda text=text, motion=motion: retrieval(text, motion))
        timed("retrieval, pools of 32", lambda text=text, motion=motion: retrieval(text, motion, pool=32))
    print(f"{options.replications} replications, {options.rows} × {options.width} embeddings\n")
    print("| metric | seconds |\n|---|--:|")
    for name, spent in seconds.items():
        print(f"| {name} | {spent:.1f} |")
    print(f"| **all** | **{sum(seconds.values()):.1f}** |")


if __name__ == "__main__":
    main()
