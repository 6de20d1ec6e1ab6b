"""Speed of motion data and of the motion representation.

python benchmarks/motion.py
python benchmarks/motion.py --only data --clips 5000
python benchmarks/motion.py --only features
python benchmarks/motion.py --only export

data: random features of HumanML3D's lengths in a temporary folder (20,000 clips: 2.5 GB, and as much for the cache),
read by one process with one thread and the files in the page cache. Other programs on the machine affect the seconds,
but not the CPU time.
features: encoding (joints to features) and decoding of procedural clips, one clip per call. The reference is the same
pipeline, frame by frame (tests/motion/reference.py); the results are compared too.

export: an hour of motion (72,000 frames of procedural clips with 2 mm of noise) to a BVH file.

Contestants alternate; the tables show medians over the rounds.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from adaqf_train.data.batches import StepBatches
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.files import save_motion
from adaqf_train.motion import features
from adaqf_train.procedural import generate

REFERENCE = Path(__file__).resolve().parent.parent / "tests" / "motion" / "reference.py"
FEATURES = 263
HOUR = 72_000  # frames, at 20 per second
FRAMES = (40, 197)  # lengths of random clips, as a half-open range
CAPTIONS = ("a person walks forward and turns left", "someone walks, then turns", "the figure walks slowly")


@dataclass(frozen=True)
class Options:
    only: Literal["data", "features", "export"] | None = None
    """None: all."""
    clips: int = 20_000
    """Clips of the data measurement."""
    takes: int = 10
    """Procedural clips of the features measurement."""
    batch: int = 64
    """Clips per batch of the data measurement."""
    rounds: int = 5
    threads: int = 1
    folder: Path | None = None
    """Parent of the temporary folder; None: the system's choice."""
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """A row of the data table: the value of each round, and the target."""

    what: str
    values: list[float]
    unit: str
    wanted: str = ""


@dataclass(frozen=True)
class Compared:
    """A row of the features table: medians in milliseconds per clip, and the largest difference of the results."""

    what: str
    ours: float
    reference: float
    ratio: float  # median of the ratios of neighbouring measurements
    difference: float  # largest, in metres or feature units


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(options.threads)
    if options.only in (None, "data"):
        report_data(measure_data(options), options)
    if options.only in (None, "export"):
        report_export(options)
    if options.only in (None, "features"):
        clips = [clip.joints.astype(np.float64) for clip in generate(options.takes, seed=options.seed)]
        report_features(measure_features(clips, options.rounds), clips, options)


def measure_data(options: Options) -> list[Measured]:
    """Opening, reading and batching a folder of random clips."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        frames = write_clips(Path(folder), options)
        cold = seconds(lambda: MotionDataset(folder, "train"))
        warm, loading, mapped, epoch, core = [], [], [], [], []
        for _ in tqdm(range(options.rounds), desc="Measuring", unit="round"):
            warm.append(seconds(lambda: MotionDataset(folder, "train")))
            dataset = MotionDataset(folder, "train")  # a fresh map: none of its pages is read yet
            paths = [f"{folder}/new_joint_vecs/{item.key}.npy" for item in dataset.items]
            loading.append(seconds(lambda paths=paths: load_each(paths)))
            mapped.append(seconds(lambda dataset=dataset: map_each(dataset)))
            busy = time.process_time()
            drawn, spent = timed(lambda dataset=dataset: iterate(dataset, options))
            epoch.append(drawn / spent)
            core.append(drawn / (time.process_time() - busy))
    times = [slow / fast for slow, fast in zip(loading, mapped, strict=True)]
    return [
        Measured(f"first open, of {frames} frames", [cold], "s"),
        Measured("later opens", warm, "s", "< 2"),
        Measured("read every clip with np.load", loading, "s"),
        Measured("read every clip from the cache", mapped, "s"),
        Measured("speed-up by the cache", times, "×", "> 4"),
        Measured(f"epoch in batches of {options.batch}", epoch, "clips/s", "> 2000"),
        Measured("the same, per CPU second", core, "clips/s", "> 2000"),
    ]


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
    """Read every value; creating the view alone reads nothing."""
    vectors.max()


def iterate(dataset: MotionDataset, options: Options) -> int:
    """One epoch as training sees it; returns its number of clips."""
    steps = len(dataset) // options.batch
    return sum(len(batch.keys) for batch in StepBatches(dataset, options.batch, options.seed).from_step(0, steps))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What the work returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def seconds(work: Callable[[], object]) -> float:
    return timed(work)[1]


def report_data(rows: Sequence[Measured], options: Options) -> None:
    print(f"data: {options.clips} clips, {options.rounds} rounds, {options.threads} thread(s)\n")
    print(f"| {'':<36} |    median |     worst | unit    | wanted |")
    print(f"|{'-' * 38}|----------:|----------:|---------|-------:|")
    for row in rows:
        worst = min(row.values) if row.wanted.startswith(">") else max(row.values)
        figures = f"{statistics.median(row.values):9.2f} | {worst:9.2f} | {row.unit:<7} | {row.wanted:>6}"
        print(f"| {row.what:<36} | {figures} |")
    print()


def measure_features(clips: Sequence[np.ndarray], rounds: int) -> list[Compared]:
    """Time encoding and decoding of clips (T, 22, 3), alternating with the reference after a warm-up."""
    oracle = load_reference()
    vectors = [oracle.encode(clip) for clip in clips]
    return [
        compare("encode: joints to features", features.encode, oracle.encode, clips, rounds),
        compare("decode: features to joints", features.decode, oracle.decode, vectors, rounds),
    ]


def compare(what: str, ours: Callable, reference: Callable, inputs: Sequence[np.ndarray], rounds: int) -> Compared:
    """Time two functions on the same inputs, in alternating order."""
    spent: dict[Callable, list[float]] = {ours: [], reference: []}
    difference = max(float(np.abs(ours(item) - reference(item)).max()) for item in inputs)  # warms up as well
    for step in range(rounds):
        for index, item in enumerate(inputs):
            for function in (ours, reference) if (step + index) % 2 else (reference, ours):
                spent[function].append(seconds(lambda function=function, item=item: function(item)))
    ratio = statistics.median(b / a for a, b in zip(spent[ours], spent[reference], strict=True))
    medians = [1000 * statistics.median(spent[function]) for function in (ours, reference)]
    return Compared(what, *medians, ratio, difference)


def report_features(rows: Sequence[Compared], clips: Sequence[np.ndarray], options: Options) -> None:
    frames = sorted(len(clip) for clip in clips)
    print(f"features: {len(clips)} clips of {frames[0]} to {frames[-1]} frames, {options.rounds} rounds, ", end="")
    print(f"{options.threads} thread(s), float64\n")
    print(f"| {'':<28} |   ms/clip | frame by frame | ratio   | max difference |")
    print(f"|{'-' * 30}|----------:|---------------:|--------:|---------------:|")
    for row in rows:
        numbers = f"{row.ours:9.2f} | {row.reference:14.1f} | {row.ratio:5.1f} × | {row.difference:14.1e}"
        print(f"| {row.what:<28} | {numbers} |")


def report_export(options: Options) -> None:
    """Time the conversion of an hour of joints to BVH, without reading them."""
    clips = np.concatenate([clip.joints.astype(np.float64) for clip in generate(options.takes, seed=options.seed)])
    joints = np.resize(clips, (HOUR, *clips.shape[1:]))
    joints = joints + np.random.default_rng(options.seed).normal(0, 0.002, joints.shape)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        save_motion(Path(folder) / "warm.bvh", joints[:100])
        spent, busy = [], []
        for _ in range(options.rounds):
            start = time.process_time()
            spent.append(seconds(lambda: save_motion(Path(folder) / "hour.bvh", joints)))
            busy.append(time.process_time() - start)
    print(f"export: {HOUR} frames to BVH, {options.rounds} rounds, {options.threads} thread(s): ", end="")
    print(f"{statistics.median(spent):.1f} s, {statistics.median(busy):.1f} s of CPU time\n")


def load_reference() -> ModuleType:
    """The tests' frame-by-frame implementation, from this checkout."""
    spec = importlib.util.spec_from_file_location("motion_reference", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
