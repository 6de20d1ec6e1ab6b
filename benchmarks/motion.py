"""Speed of motion data: opening a data set of HumanML3D's size, reading its clips, making an epoch of batches.

python benchmarks/motion.py
python benchmarks/motion.py --only data --clips 5000

data: random features of HumanML3D's lengths in a temporary folder (20,000 clips: 2.5 GB, and as much for the cache),
read by one process on one thread with the files in the page cache. Contestants take turns; medians over the rounds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from adaqf_train.data.batches import StepBatches
from adaqf_train.data.dataset import MotionDataset

FEATURES = 263
FRAMES = (40, 197)  # of a clip: from, and up to but without
CAPTIONS = ("a person walks forward and turns left", "someone walks, then turns", "the figure walks slowly")


@dataclass(frozen=True)
class Options:
    only: Literal["data"] | None = None  # None: everything
    clips: int = 20_000
    batch: int = 64  # clips
    rounds: int = 5
    threads: int = 1
    folder: Path | None = None  # where the temporary folder is made; None: the system's choice
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """A line of the table: the median of what was measured, and what is asked of it."""

    what: str
    values: list[float]
    unit: str
    wanted: str = ""


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(options.threads)
    for part, measure in PARTS.items():
        if options.only in (None, part):
            report(part, measure(options), options)


def measure_data(options: Options) -> list[Row]:
    """Opening, reading and batching a folder of random clips."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        frames = write_clips(Path(folder), options)
        cold = seconds(lambda: MotionDataset(folder, "train"))
        warm, loading, mapped, epoch = [], [], [], []
        for _ in tqdm(range(options.rounds), desc="Measuring", unit="round"):
            warm.append(seconds(lambda: MotionDataset(folder, "train")))
            dataset = MotionDataset(folder, "train")  # a map that no page has been read through
            paths = [f"{folder}/new_joint_vecs/{item.key}.npy" for item in dataset.items]
            loading.append(seconds(lambda paths=paths: load_each(paths)))
            mapped.append(seconds(lambda dataset=dataset: map_each(dataset)))
            steps = len(dataset) // options.batch
            epoch.append(steps * options.batch / seconds(lambda dataset=dataset: iterate(dataset, options)))
    times = [slow / fast for slow, fast in zip(loading, mapped, strict=True)]
    return [
        Row(f"first open: {options.clips} clips, {frames} frames", [cold], "s"),
        Row("later opens", warm, "s", "< 2"),
        Row("every clip once, np.load", loading, "s"),
        Row("every clip once, from the cache", mapped, "s"),
        Row("the cache is faster", times, "×", "> 4"),
        Row(f"epoch in batches of {options.batch}", epoch, "clips/s", "> 2000"),
    ]


PARTS: dict[str, Callable[[Options], list[Row]]] = {"data": measure_data}


def write_clips(folder: Path, options: Options) -> int:
    """A folder in HumanML3D's layout; returns its number of frames."""
    rng = np.random.default_rng(options.seed)
    pool = rng.standard_normal((50_000, FEATURES), dtype=np.float32)
    for part in ("new_joint_vecs", "texts"):
        (folder / part).mkdir()
    lengths = rng.integers(*FRAMES, options.clips)
    lines = "".join(f"{caption}#walk/VERB#0.0#0.0\n" for caption in CAPTIONS)
    for i, length in enumerate(tqdm(lengths, desc="Writing clips", unit="clip")):
        start = rng.integers(len(pool) - length)
        np.save(folder / "new_joint_vecs" / f"{i:06d}.npy", pool[start : start + length])
        (folder / "texts" / f"{i:06d}.txt").write_text(lines, encoding="utf-8")
    np.save(folder / "Mean.npy", pool.mean(axis=0))
    np.save(folder / "Std.npy", pool.std(axis=0))
    (folder / "train.txt").write_text("".join(f"{i:06d}\n" for i in range(options.clips)), encoding="utf-8")
    return int(lengths.sum())


def load_each(paths: list[str]) -> None:
    for path in paths:
        consume(np.load(path))


def map_each(dataset: MotionDataset) -> None:
    for item in dataset.items:
        consume(item.vectors)


def consume(vectors: np.ndarray) -> None:
    """Reads every value: a view that nobody looks at would read nothing."""
    vectors.max()


def iterate(dataset: MotionDataset, options: Options) -> None:
    """One epoch as training sees it."""
    steps = len(dataset) // options.batch
    for _ in StepBatches(dataset, options.batch, options.seed).from_step(0, steps):
        pass


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(part: str, rows: list[Row], options: Options) -> None:
    print(f"{part}: {options.rounds} rounds, {options.threads} threads, Python {sys.version.split()[0]}\n")
    print(f"| {'what':<48} |    median |     worst | unit    | wanted |")
    print(f"|{'-' * 50}|----------:|----------:|---------|-------:|")
    for row in rows:
        worst = min(row.values) if row.wanted.startswith(">") else max(row.values)
        figures = f"{statistics.median(row.values):9.2f} | {worst:9.2f} | {row.unit:<7} | {row.wanted:>6}"
        print(f"| {row.what:<48} | {figures} |")
    print()


if __name__ == "__main__":
    main()
