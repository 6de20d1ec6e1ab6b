"""Speed of training steps, sampling and encoding on this machine, as rows of a table.

Each part is a function of its own that returns rows, so that a script can call them one by one.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from adaclip import AdaCLIP
from adaqf_train.config import RunConfig, recipes
from adaqf_train.data.batches import MotionBatch, StepBatches
from adaqf_train.data.dataset import Item, MotionDataset
from adaqf_train.runs import bench_mdm
from adaqf_train.runs.accelerator import new_accelerator
from adaqf_train.runs.rehearsal import Rehearsal, stand_in
from adaqf_train.runs.timing import count_flops, finish, ready, time_sampling
from adaqf_train.training.step import Step

Row = dict[str, str | float | None]  # "what", "on", "ms" and what else was measured
Precision = Literal["no", "bf16"]
FRAMES = (64, 128, 196)
PROMPTS = (1, 64, 512)
SAMPLERS = (("ddpm", 50), ("ddim", 10))
PADDED_TOKENS = 77  # that a plain call of CLIP pads prompts to
STEPS = 20  # calls that are timed, in at most SECONDS
SECONDS = 5.0 if torch.cuda.is_available() else 2.0
WARM_UP = 30.0  # seconds of steps over the lengths of the data on a GPU, before they are timed
STEP = "AdaQF's step"
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
NAMES = {"no": "fp32", "bf16": "bf16", None: "–"}
# Title of a column: key of a row.
SHOWN = {
    "of the floor": "share of the floor",
    "launches": "launches",
    "host waits": "host waits",
    "GPU busy": "GPU busy",
    "peak GB": "peak GB",
    "plain, ms": "plain transformers, ms",
    "× as fast": "times as fast",
}
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")


def settings(size: Literal["mdm", "pocket"]) -> RunConfig:
    """The configuration that is measured: MDM's size with ViT-B/32's text tower, or the pocket recipe."""
    config = recipes.load("humanml3d" if size == "mdm" else "pocket")
    return replace(config, training=replace(config.training, drop_at=None))


def machine() -> Row:
    """Name the device, and measure the rate of a large matrix product on it."""
    with _accelerator("no") as accelerator:
        on_gpu = accelerator.device.type == "cuda"
        name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
        rates = {f"TFLOP/s {precision}": peak(accelerator, precision) / 1e12 for precision in ("no", "bf16")}
    return {"device": name, "torch": torch.__version__} | rates


def peak(accelerator: Accelerator, precision: Precision) -> float:
    """Measure the operations a second of a large matrix product."""
    size = 8192 if accelerator.device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=accelerator.device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _seconds(accelerator, lambda: a @ b, limit=0.5)


def steps(
    config: RunConfig,
    precision: Precision,
    *,
    frames: Sequence[int] | None = None,
    in_data: bool = True,
    dataset: MotionDataset | None = None,
) -> list[Row]:
    """Time AdaQF's whole step: forward, backward, AdamW and average.

    Args:
        config: Sizes and settings, such as `settings` makes.
        precision: Of the training.
        frames: Lengths of clips, each timed in batches of its own, without data loading; None: FRAMES.
        in_data: Also time a fit over the lengths of the data, with data loading.
        dataset: The data; None: a stand-in.

    Returns:
        A row for each length, with the share of the arithmetic's floor, launches and host synchronisations.
    """
    data, frames = dataset or stand_in(config)[0], FRAMES if frames is None else frames
    with _accelerator(precision) as accelerator, tempfile.TemporaryDirectory() as folder:
        on_gpu = accelerator.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        objective, training = Rehearsal(accelerator, config, data, Path(folder)).objective("adaqf")
        floor = {}
        for n in frames:
            flops = count_flops(accelerator, _of_length(data, n), objective, replace(training, bucket=1))
            floor[n] = sum(flops.values()) / peak(accelerator, precision)
        source, step = ready(accelerator, data, objective, training)
        rows = []
        for n in frames:
            batch = _batch(_of_length(data, n), objective, training.batch)
            seconds = _seconds(accelerator, lambda batch=batch: step(batch, logged=False))
            row = {"what": STEP, "on": f"{n} frames, batch {training.batch}", "precision": precision}
            row |= {"ms": 1e3 * seconds, "share of the floor": floor[n] / seconds}
            rows.append(row | _host_work(accelerator, lambda batch=batch: step(batch, logged=False), seconds))
        if in_data:
            rows.append(_in_data(accelerator, source, step, training.workers) | {"precision": precision})
        if on_gpu:
            rows[-1]["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
        accelerator.free_memory()
    return rows


def sampling(
    config: RunConfig, precision: Precision = "no", *, motions: int | None = None, frames: int = 196
) -> list[Row]:
    """Time the sampling of a batch, from prompts to features on the host, with each of SAMPLERS.

    Args:
        config: Sizes and settings.
        precision: Of the denoiser's weights.
        motions: In the batch; None: 32, on a CPU 8.
        frames: Of each motion.

    Returns:
        A row for each sampler; on a CPU, long ones are extrapolated from a few steps.
    """
    rows: list[Row] = []
    data = stand_in(config)[0]
    with _accelerator("no") as accelerator, tempfile.TemporaryDirectory() as folder:
        motions = motions or (32 if accelerator.device.type == "cuda" else 8)
        rehearsal = Rehearsal(accelerator, config, data, Path(folder))
        generator, prompts = rehearsal.generator(), rehearsal.captions[:motions]
        if precision == "bf16":
            generator.denoiser.to(torch.bfloat16)
        for scheduler, count in SAMPLERS:
            generator.sampling = replace(generator.sampling, scheduler=scheduler, steps=count, batch=motions)
            seconds, _ = time_sampling(generator, prompts, frames, SECONDS / 2)
            what = f"sampling, {scheduler.upper()} {count}"
            rows.append({"what": what, "on": f"{motions} × {frames} frames", "precision": precision})
            rows[-1]["ms"] = 1e3 * seconds
    return rows


def encoding(
    config: RunConfig, precisions: Sequence[Precision] = ("no", "bf16"), *, prompts: Sequence[int] = PROMPTS
) -> list[Row]:
    """Time `AdaCLIP.encode` without its cache beside a plain call of transformers padded to 77 tokens."""
    rows: list[Row] = []
    data = stand_in(config)[0]
    with _accelerator("no") as accelerator, tempfile.TemporaryDirectory() as folder:
        base = Rehearsal(accelerator, config, data, Path(folder)).base
        texts = [f"{caption} {number}" for number, caption in enumerate(_captions(data, max(prompts)))]
        for precision in precisions:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            encoder = AdaCLIP.from_base(base, dtype=dtype).to(accelerator.device).eval()
            encoder.cache.max_bytes = 0
            model, tokenizer = encoder.merged().eval(), encoder.tokenizer

            @torch.no_grad()
            def plain(texts: list[str], model=model, tokenizer=tokenizer, pooling=encoder.pooling) -> torch.Tensor:
                padding = {"padding": "max_length", "max_length": PADDED_TOKENS, "truncation": True}
                batch = tokenizer(texts, return_tensors="pt", **padding).to(model.device)
                return pooling(model, batch["input_ids"], batch["attention_mask"].bool())[0]

            for count in prompts:
                some, size = texts[:count], max(count, 64)
                seconds, theirs = _alternating(
                    accelerator,
                    lambda some=some, size=size, encoder=encoder: encoder.encode(
                        some, batch_size=size, convert_to_tensor=True, show_progress_bar=False
                    ),
                    lambda some=some, plain=plain: plain(some),
                )
                row = {"what": "AdaCLIP.encode", "on": f"{count} prompts", "precision": precision}
                rows.append(row | {"ms": 1e3 * seconds, "plain transformers, ms": 1e3 * theirs})
                rows[-1]["times as fast"] = theirs / seconds
    return rows


def _in_data(accelerator: Accelerator, source: StepBatches, step: Step, workers: int) -> Row:
    """Time steps over the lengths of the data, in a row and without waiting in between."""
    on_gpu = accelerator.device.type == "cuda"
    warm_up, limit = (WARM_UP, SECONDS) if on_gpu else (0.0, SECONDS)
    batches, begin, warmed = source.from_step(step.state.step, 1_000_000, workers), time.perf_counter(), 0
    while not warmed or time.perf_counter() - begin < warm_up:  # until every shape is compiled and captured
        step(next(batches), logged=False).loss.item()
        warmed += 1
    finish(accelerator)
    count, start = 0, time.perf_counter()
    while not count or time.perf_counter() - start < limit:
        step(next(batches), logged=False)
        count += 1
        if count % 50 == 0:
            finish(accelerator)  # as the log does
    finish(accelerator)
    seconds = (time.perf_counter() - start) / count
    work = _host_work(accelerator, lambda: [step(b, logged=False) for b in islice(batches, 10)], seconds, calls=10)
    return {"what": STEP, "on": "as in the data, data loading included", "ms": 1e3 * seconds} | work


def _host_work(accelerator: Accelerator, run: Callable[[], object], seconds: float, calls: int = 1) -> Row:
    """Launches, synchronisations and the share of time that the GPU works; nothing on a CPU."""
    if accelerator.device.type != "cuda":
        return {}

    def counts(run: Callable[[], object]) -> tuple[int, int, float]:
        finish(accelerator)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            run()
            finish(accelerator)
        events = profiled.key_averages()
        launches = sum(event.count for event in events if event.key in LAUNCHES)
        waits = sum(event.count for event in events if event.key in WAITS or "Pageable" in event.key)
        on_device = [event for event in events if event.device_type == DeviceType.CUDA]
        return launches, waits, sum(event.self_device_time_total for event in on_device) / 1e6

    idle, (launches, waits, busy) = counts(lambda: None), counts(run)
    return {
        "launches": (launches - idle[0]) / calls,
        "host waits": (waits - idle[1]) / calls,
        "GPU busy": min(1.0, busy / calls / seconds),
    }


def _seconds(accelerator: Accelerator, run: Callable[[], object], limit: float = SECONDS) -> float:
    """Median seconds of a call after its warm-up: up to STEPS calls in `limit` seconds."""
    return _alternating(accelerator, run, limit=limit)[0]


def _alternating(accelerator: Accelerator, *runs: Callable[[], object], limit: float = SECONDS) -> list[float]:
    """Median seconds of each call; they take turns, so that other load on the machine meets them alike."""
    warm_up = 5 if accelerator.device.type == "cuda" else 1
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        for _ in range(warm_up):
            run()
    begin = time.perf_counter()
    while len(seconds[0]) < STEPS and (not seconds[0] or time.perf_counter() - begin < limit):
        for run, own in zip(runs, seconds, strict=True):
            finish(accelerator)
            start = time.perf_counter()
            run()
            finish(accelerator)
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in seconds]


def _of_length(data: MotionDataset, frames: int) -> MotionDataset:
    """The data set with clips of that many frames, none of which is cropped."""
    same = copy.copy(data)
    noise = np.random.default_rng(0).standard_normal((frames, data.features), dtype=np.float32)
    same.items = [Item(item.key, noise, item.captions, "") for item in data.items]
    same.config = replace(data.config, unit_frames=frames, min_frames=frames, max_frames=frames + 1)
    return same


def _batch(data: MotionDataset, objective: torch.nn.Module, size: int) -> MotionBatch:
    batch = StepBatches(data, size, 0, captions=objective.captions, diffusion=objective.diffusion)[0]
    return batch.pin_memory() if torch.cuda.is_available() else batch


def _captions(data: MotionDataset, count: int) -> list[str]:
    captions = data.captions()
    return [captions[i % len(captions)] for i in range(count)]


@contextmanager
def _accelerator(precision: Precision) -> Iterator[Accelerator]:
    """Accelerate with that precision. A process has one state of accelerate, whose precision cannot be changed."""
    before, products = dict(AcceleratorState._shared_state), torch.get_float32_matmul_precision()
    AcceleratorState._reset_state()
    try:
        yield new_accelerator(precision)
    finally:
        AcceleratorState._reset_state()
        AcceleratorState._shared_state.update(before)
        torch.set_float32_matmul_precision(products)


def parts(config: RunConfig, mdm: Path | None, *, on_gpu: bool) -> dict[str, Callable[[], list[Row]]]:
    """The measurements by name. mdm: a checkout of MDM's code; None: not measured."""
    found = {"steps": lambda: steps(config, "no"), "sampling": lambda: sampling(config)}
    found["encoding"] = lambda: encoding(config, ("no", "bf16") if on_gpu else ("no",))
    if on_gpu:
        found |= {"steps in bf16": lambda: steps(config, "bf16"), "sampling in bf16": lambda: sampling(config, "bf16")}
    else:
        found["bf16"] = lambda: [unmeasured("all of these", "bf16", "it needs a GPU")]
    if mdm is None:
        found["MDM's own code"] = lambda: [unmeasured("MDM's own step and sampling", None, "give --mdm CHECKOUT")]
    else:
        found["MDM's own code"] = lambda: bench_mdm.measure(mdm)
    return found


def unmeasured(what: str, precision: str | None, why: str) -> Row:
    """A row without a figure."""
    return {"what": what, "on": "–", "precision": precision, "ms": None, "why": why}


def show(rows: Sequence[Row], about: Row, console: Console) -> None:
    """Print the machine and a table of all rows."""
    rates = ", ".join(f"{NAMES[name]} {about[f'TFLOP/s {name}']:.3g}" for name in ("no", "bf16"))
    console.print(f"{about['device']}, torch {about['torch']}, {about['size']}; matrix products, TFLOP/s: {rates}")
    table = Table()
    shown = {name: key for name, key in SHOWN.items() if any(row.get(key) is not None for row in rows)}
    for number, name in enumerate(("what", "on", "precision", "ms", *shown)):
        table.add_column(name, justify="right" if number > 2 else "left")
    for row in rows:
        cells = [_cell(row.get(key), key) for key in shown.values()]
        ms = "not measured" if row["ms"] is None else _cell(row["ms"], "ms")
        table.add_row(row["what"], row["on"], NAMES[row.get("precision")], ms, *cells)
    # A table that is wider than the screen would be printed with its figures cut off.
    wide = console.options.update(max_width=1000)
    console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)
    for row in rows:
        if row["ms"] is None:
            console.print(f"{row['what']} ({NAMES[row['precision']]}): not measured, {row['why']}", style="dim")


def _cell(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    if key in ("share of the floor", "GPU busy"):
        return f"{value:.0%}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
