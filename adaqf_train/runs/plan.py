"""The plan of a run: its stages with their work, time and memory, from a rehearsal on this machine."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from adaqf_train.config import RunConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.runs.rehearsal import Rehearsal, few, stages_of, stand_in
from adaqf_train.runs.timing import measure, parameters, time_sampling

GIGA = 1e9
SAMPLED = 16  # motions that are sampled together on a CPU; those of a whole batch take longer in proportion
ARMS = 2  # that an evaluation scores: the baseline and AdaQF


@dataclass(frozen=True)
class Part:
    """A network."""

    name: str
    parameters: int
    trainable: int  # in the AdaQF stage


@dataclass(frozen=True)
class Stage:
    """A stage at the recipe's numbers; seconds and bytes are those of each process."""

    name: str
    steps: int  # of the optimiser; of the evaluation, batches of motions
    flops: dict[str, float] | None  # floating-point operations of a step of each process, by part; None: not counted
    seconds: float  # of a step
    timed: str  # what was timed
    memory: int | None  # bytes; None: not measured

    @property
    def hours(self) -> float:
        """Hours of the whole stage."""
        return self.steps * self.seconds / 3600


@dataclass(frozen=True)
class Plan:
    """The cost of a run."""

    recipe: str
    device: str
    threads: int
    processes: int
    data: str  # what clips and captions are
    parts: tuple[Part, ...]
    stages: tuple[Stage, ...]

    def as_dict(self) -> dict:
        """The plan for JSON."""
        content = asdict(self)
        for stage, row in zip(self.stages, content["stages"], strict=True):
            row["hours"] = stage.hours
        return content

    def show(self, console: Console) -> None:
        """Print the parts, the stages, and what the figures rest on."""
        parts = _table(f"{self.recipe}: parameters", "part", "parameters", "learn in AdaQF")
        for part in self.parts:
            parts.add_row(part.name, f"{part.parameters:,}", f"{part.trainable:,}" if part.trainable else "–")
        title = f"stages on {self.processes} × {self.device} ({self.threads} threads)"
        stages = _table(title, "stage", "steps", "GFLOP a step", "s a step", "hours", "GB", "timed")
        for stage in self.stages:
            flops = "–" if stage.flops is None else f"{sum(stage.flops.values()) / GIGA:,.1f}"
            memory = "–" if stage.memory is None else f"{stage.memory / GIGA:.2f}"
            row = (stage.name, f"{stage.steps:,}", flops, f"{stage.seconds:.3g}", f"{stage.hours:,.2f}", memory)
            stages.add_row(*row, stage.timed)
        work = _table("AdaQF by part", "part", "GFLOP a step")
        for part, flops in next(stage for stage in self.stages if stage.name == "adaqf").flops.items():
            work.add_row(part, f"{flops / GIGA:,.1f}")
        for table in (parts, stages, work):
            console.print(table)
        for note in self.notes():
            console.print(note, style="dim")

    def notes(self) -> list[str]:
        """What the figures rest on."""
        memory = (
            "GB is the peak of the GPU's memory."
            if self.device != "cpu"
            else "GB counts weights, gradients, AdamW's moments and the average, not what a step keeps in between."
        )
        notes = [
            f"Clips and captions: {self.data}.",
            f"{sum(stage.hours for stage in self.stages):,.1f} hours in all, at the present speed of this machine. "
            "The evaluation consists of sampling alone: s a step is the time of a batch of motions.",
            memory,
        ]
        if self.processes > 1:
            notes.append(
                f"Each of {self.processes} processes has a device of its own and an equal share of the batch; "
                "communication is not included."
            )
        return notes


def make(
    config: RunConfig,
    accelerator: Accelerator,
    *,
    data: MotionDataset | None = None,
    samples: int = 0,
    val: int | None = None,
    processes: int = 1,
    budget: float = 20.0,
) -> Plan:
    """Measure a run on this machine.

    Args:
        config: Its configuration.
        accelerator: Device and precision.
        data: The training split, for real lengths and captions; None: a stand-in.
        samples: Items of the split that is scored, with `data`.
        val: Items of the validation split; None: a third of `samples`, as in HumanML3D.
        processes: Processes that share a batch.
        budget: Seconds of timed steps for each stage.

    Returns:
        The plan.

    Raises:
        ConfigError: The size of the base is not known, or a setting does not hold.
        DataError: A batch is larger than the data.
    """
    source = f"those of {data.folder}" if data is not None else ""
    if data is None:
        data, samples, source = stand_in(config)
        source = f"no data given; {source}"
    data = few(data)
    with tempfile.TemporaryDirectory() as folder:
        rehearsal = Rehearsal(accelerator, config, data, Path(folder))
        stages, parts = [], {}
        for name in stages_of(config):
            objective, training = rehearsal.objective(name)
            parts |= _parts(name, objective)
            share = replace(training, batch=training.batch // processes)
            timing = measure(accelerator, data, objective, share, budget)
            timed = f"{timing.steps} × {timing.clips} clips"
            stages.append(Stage(name, training.steps, timing.flops, timing.seconds, timed, timing.memory))
            del objective
        stages.append(_evaluation(rehearsal, samples, samples // 3 if val is None else val, budget))
    threads = torch.get_num_threads()
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type
    return Plan(config.recipe, device, threads, processes, source, tuple(parts.values()), tuple(stages))


def _parts(stage: str, objective: torch.nn.Module) -> dict[str, Part]:
    """The networks of a stage, by name."""
    if stage == "adaqf":
        encoder = objective.encoder
        adapter = sum(p.numel() for p in encoder.adapter_parameters())
        learns = parameters(encoder, trainable=True)
        lora = sum(p.numel() for p in encoder.adapter_parameters() if p.requires_grad)
        parts = [
            Part("text tower with projection", parameters(encoder) - adapter, learns - lora),
            Part("LoRA adapter", adapter, lora),
            Part("denoiser", parameters(objective.denoiser), parameters(objective.denoiser, trainable=True)),
        ]
    elif stage == "aligned":
        parts = [Part("motion encoder of the aligned start", parameters(objective.motion), 0)]
    else:
        parts = [] if stage == "baseline" else [Part(stage, parameters(objective.towers), 0)]
    return {part.name: part for part in parts}


def _evaluation(rehearsal: Rehearsal, samples: int, val: int, budget: float) -> Stage:
    """All replications of both arms, with the motions of MultiModality, and their curves over guidance."""
    config, data = rehearsal.config, rehearsal.dataset
    evaluation, batch, unit = config.evaluation, config.sampling.batch, config.data.unit_frames
    if evaluation.procedural_test is not None:
        samples, val = evaluation.procedural_test, evaluation.procedural_val
    samples = min(samples, evaluation.samples or samples)
    several = min(evaluation.multimodality_texts or 0, samples) * evaluation.multimodality_repeats
    batches = evaluation.replications * (ceil(samples / batch) + ceil(several / batch))
    points, repeats = len(evaluation.guidances), min(evaluation.curve_replications, evaluation.replications)
    on_val = ceil(min(val, evaluation.samples or val) / batch) if evaluation.chooses else 0
    batches += repeats * (points * on_val + max(points - 1, 0) * ceil(samples / batch))
    batches *= ARMS
    frames = round(statistics.mean(len(item.vectors) for item in data.items) / unit) * unit
    rows = min(batch, samples)
    few_rows = rows if rehearsal.accelerator.device.type == "cuda" else min(rows, SAMPLED)
    prompts = [rehearsal.captions[i % len(rehearsal.captions)] for i in range(few_rows)]
    seconds, steps = time_sampling(rehearsal.generator(), prompts, frames, budget)
    return Stage("evaluation", batches, None, seconds * rows / few_rows, f"{steps} × {few_rows} motions", None)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
