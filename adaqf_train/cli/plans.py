"""The verb that estimates what a run will cost: plan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from adaqf_train.cli.options import Flags, Overrides, Recipe, WithSettings
from adaqf_train.config import RunConfig, recipes
from adaqf_train.errors import ConfigError
from adaqf_train.runs.accelerator import new_accelerator


@dataclass(frozen=True)
class PlanVerb(WithSettings):
    """Estimate parameters, work, memory and hours of a recipe from a few steps timed on this machine.

    Needs no weights, no data and no network.
    """

    recipe: Recipe = "humanml3d"
    data: Path | None = None
    """Folder in HumanML3D's layout, for the lengths of its clips and captions; None: typical ones of the recipe."""
    processes: int = 1
    """Processes that share the batch, each with a device of its own."""
    budget: float = 20.0
    """Seconds of timed steps for each stage."""
    json: bool = False
    """Print the plan as JSON, and nothing else."""
    settings: Overrides = ()
    config: Annotated[RunConfig, Flags] = recipes.RECIPES["humanml3d"]

    def __call__(self) -> None:
        config = self.config
        if self.budget <= 0:
            raise ConfigError(f"--budget must be positive, got {self.budget}.")
        for part in ("extractors", "evaluator", "joint_evaluator", "training"):
            batch = getattr(config, part).batch
            if self.processes < 1 or batch % self.processes:
                raise ConfigError(f"--processes {self.processes}: {part}.batch ({batch}) cannot be divided by it.")
        import json

        from rich.console import Console

        from adaqf_train.data.dataset import MotionDataset
        from adaqf_train.data.official import locate
        from adaqf_train.runs import plan

        accelerator = new_accelerator(config.training.precision)
        train, samples, val = None, 0, None
        if self.data is not None:
            folder = locate(self.data)
            train = MotionDataset(folder, "train", config.data)
            samples = len(MotionDataset(folder, config.evaluation.split, config.data))
            val = len(MotionDataset(folder, "val", config.data)) if config.evaluation.chooses else 0
        options = {"data": train, "samples": samples, "val": val, "processes": self.processes, "budget": self.budget}
        made = plan.make(config, accelerator, **options)
        if accelerator.is_main_process:
            if self.json:
                print(json.dumps(made.as_dict(), indent=2))
            else:
                made.show(Console())
        accelerator.end_training()
