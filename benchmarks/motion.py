"""Speed of the motion representation against the same pipeline written out frame by frame.

python benchmarks/motion.py

Encoding (joints to features) and decoding (features to joints) of procedural clips, one clip a call, in turns within
one run on one thread; medians over the clips and the rounds. The reference is the tests' oracle
(tests/motion/reference.py), so the results are compared too.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import tyro

from adaqf_train.motion import features
from adaqf_train.motion.synthetic import generate

REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "motion" / "reference.py"


@dataclass(frozen=True)
class Options:
    clips: int = 10
    rounds: int = 3
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the table: medians in milliseconds a clip, and how far apart the results are."""

    what: str
    ours: float
    reference: float
    ratio: float  # median of the ratios of neighbouring measurements
    difference: float  # largest, in metres or feature units


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(options.threads)
    clips = [clip.joints.astype(np.float64) for clip in generate(options.clips, seed=options.seed)]
    frames = sorted(len(clip) for clip in clips)
    print(f"{len(clips)} clips of {frames[0]} to {frames[-1]} frames, {options.rounds} rounds, ", end="")
    print(f"{torch.get_num_threads()} thread(s), CPU float64\n")
    report(features_rows(clips, options.rounds))


def features_rows(clips: Sequence[np.ndarray], rounds: int) -> list[Row]:
    """Encoding and decoding clips (T, 22, 3), each way once warmed up and then timed in turns."""
    oracle = load_reference()
    vectors = [oracle.encode(clip) for clip in clips]
    return [
        compare("encode: joints to features", features.encode, oracle.encode, clips, rounds),
        compare("decode: features to joints", features.decode, oracle.decode, vectors, rounds),
    ]


def compare(what: str, ours: Callable, reference: Callable, inputs: Sequence[np.ndarray], rounds: int) -> Row:
    """Times two functions on the same inputs, neither always first."""
    seconds: dict[Callable, list[float]] = {ours: [], reference: []}
    difference = max(float(np.abs(ours(item) - reference(item)).max()) for item in inputs)  # warms up as well
    for step in range(rounds):
        for index, item in enumerate(inputs):
            for function in (ours, reference) if (step + index) % 2 else (reference, ours):
                start = time.perf_counter()
                function(item)
                seconds[function].append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(seconds[ours], seconds[reference], strict=True))
    medians = [1000 * statistics.median(seconds[function]) for function in (ours, reference)]
    return Row(what, *medians, ratio, difference)


def report(rows: Sequence[Row]) -> None:
    print(f"| {'':<28} | ms a clip | frame by frame | ratio   | max difference |")
    print(f"|{'-' * 30}|----------:|---------------:|--------:|---------------:|")
    for row in rows:
        numbers = f"{row.ours:9.2f} | {row.reference:14.1f} | {row.ratio:5.1f} × | {row.difference:14.1e}"
        print(f"| {row.what:<28} | {numbers} |")


def load_reference() -> ModuleType:
    """The tests' frame-by-frame implementation, from this checkout."""
    spec = importlib.util.spec_from_file_location("motion_reference", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
