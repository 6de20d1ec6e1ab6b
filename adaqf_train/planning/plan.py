"""The plan of a run: its stages with their work, speed, memory and hours, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from adaqf_train.planning import work
from adaqf_train.planning.calibration import Speed

GIGA = 1e9


@dataclass(frozen=True)
class Part:
    """A network, or what is trained of it."""

    name: str
    parameters: int
    trainable: int


@dataclass(frozen=True)
class Stage:
    """A stage at the recipe's numbers; seconds and bytes are those of each process."""

    name: str
    steps: int
    work: Mapping[str, float]  # floating-point operations of a step over all processes, by part
    speed: Speed
    memory: Mapping[str, int]  # bytes by kind

    @property
    def hours(self) -> float:
        return self.steps * self.speed.seconds / 3600


@dataclass(frozen=True)
class Plan:
    """What a run will take."""

    recipe: str
    device: str
    threads: int
    processes: int
    shapes: str  # what was assumed of clips and captions
    frames: float  # that clips are padded to in training, on average
    tokens: float  # that captions are padded to
    parts: tuple[Part, ...]
    stages: tuple[Stage, ...]

    def as_dict(self) -> dict:
        content = asdict(self)
        for stage, row in zip(self.stages, content["stages"], strict=True):
            row["hours"] = stage.hours
        return content

    def show(self, console: Console) -> None:
        """Tables of the parts and of the stages."""
        parts = Table(title=f"{self.recipe}: parameters")
        for title in ("part", "parameters", "learn in AdaQF"):
            parts.add_column(title, justify="left" if title == "part" else "right")
        for part in self.parts:
            parts.add_row(part.name, f"{part.parameters:,}", f"{part.trainable:,}" if part.trainable else "–")
        console.print(parts)
        stages = Table(title=f"stages on {self.processes} × {self.device} ({self.threads} threads)")
        for title in ("stage", "steps", "GFLOP a step", "s a step", "hours", "timed", "GB"):
            stages.add_column(title, justify="left" if title == "stage" else "right")
        for stage in self.stages:
            timed = f"{stage.speed.steps} × {stage.speed.clips} clips"
            flops = f"{work.total(stage.work) / GIGA:,.1f}"
            memory = f"{sum(stage.memory.values()) / GIGA:.2f}"
            stages.add_row(
                stage.name,
                f"{stage.steps:,}",
                flops,
                f"{stage.speed.seconds:.3g}",
                f"{stage.hours:,.2f}",
                timed,
                memory,
            )
        console.print(stages)
        detail = Table(title="AdaQF by part")
        for title in ("", "GFLOP a step", "kind of memory", "GB"):
            detail.add_column(title, justify="right" if title in ("GFLOP a step", "GB") else "left")
        adaqf = next(stage for stage in self.stages if stage.name == "adaqf")
        flops, memory = list(adaqf.work.items()), list(adaqf.memory.items())
        for row in range(max(len(flops), len(memory))):
            left = (flops[row][0], f"{flops[row][1] / GIGA:,.1f}") if row < len(flops) else ("", "")
            right = (memory[row][0], f"{memory[row][1] / GIGA:.3f}") if row < len(memory) else ("", "")
            detail.add_row(*left, *right)
        console.print(detail)
        for note in self.notes():
            console.print(note, style="dim")

    def notes(self) -> list[str]:
        """What the figures rest on."""
        notes = [
            f"Clips and captions: {self.shapes}. In training they are padded to {self.frames:.0f} frames and "
            f"{self.tokens:.0f} tokens on average.",
            f"{sum(stage.hours for stage in self.stages):,.1f} hours in all, at the speed of this machine now. "
            "Evaluation is sampling alone.",
        ]
        scaled = [stage.name for stage in self.stages if stage.speed.scaled]
        if scaled:
            notes.append(f"Scaled by the work from smaller batches, as the whole would take long: {', '.join(scaled)}.")
        if self.processes > 1:
            notes.append(
                f"Each of {self.processes} processes has a device of its own and a {self.processes}th of the batch; "
                "what they tell each other is not counted."
            )
        return notes
