"""What the verbs that work on a run share: their options, and how a run is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from adaqf_train.config import RunConfig, override, recipes
from adaqf_train.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from adaqf_train.evaluation.report import Report
    from adaqf_train.runs.folder import RunFolder
    from adaqf_train.runs.scoring import Scoring
    from adaqf_train.runs.stages import Pipeline

Overrides = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]],
    tyro.conf.arg(name="set", metavar="NAME=VALUE", help="Change a setting, such as diffusion.steps=50. Repeatable."),
]


@dataclass(frozen=True)
class RunOptions:
    """Options of every verb that works on a run."""

    data: Path
    """Folder in HumanML3D's layout (made by `prepare`, or the data set as distributed), or one that holds it, such as
    a checkout of MDM or MoMask with its dataset/."""
    out: Path
    """The run's folder. Starting the same command again goes on where it stopped."""
    recipe: str = "pocket"
    """demo, pocket, humanml3d or kit."""
    base: Path | None = None
    """Folder of a CLIP text model to use as the base, in place of the recipe's."""
    reuse: Path | None = None
    """Earlier run whose finished stages are copied where their settings are the same."""
    settings: Overrides = ()

    def config(self) -> RunConfig:
        return override(recipes.load(self.recipe), self.settings)


@contextmanager
def open_run(out: Path, precision: str | None = None) -> Iterator[RunFolder]:
    """The run's folder, locked, with accelerate and the threads set up."""
    from adaqf_train.runs.folder import RunFolder

    run = RunFolder(out, new_accelerator(precision))
    with run.locked():
        yield run
    run.accelerator.end_training()


def new_accelerator(precision: str | None = None) -> Accelerator:
    """Accelerate on all cores of this process; ConfigError for a precision that the machine has not got."""
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs

    # accelerate and torchrun export OMP_NUM_THREADS=1, which halves the speed on a CPU. Any other number, and any
    # number without a launcher, is the user's.
    launched = "LOCAL_RANK" in os.environ or any(name.startswith("ACCELERATE_") for name in os.environ)
    if launched and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    # The main process validates alone, and the others wait for it: longer than the ten minutes that NCCL gives them.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    try:
        return Accelerator(mixed_precision=precision, kwargs_handlers=[patience])
    except ValueError as error:  # a precision that this machine has not got
        raise ConfigError(f"training.precision={precision}: {error} Choose another, or none.") from error


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def opened(options: RunOptions) -> Iterator[Pipeline]:
    config = options.config()
    with open_run(options.out, config.training.precision) as run:
        if options.reuse is not None:
            run.borrow_from(options.reuse)
        with opened_pipeline(run, config, options.data, options.base) as pipeline:
            yield pipeline


@contextmanager
def opened_pipeline(run: RunFolder, config: RunConfig, data: Path, base: Path | None = None) -> Iterator[Pipeline]:
    """The stages of a run, whose run.json is brought up to date once nothing was refused."""
    from adaqf_train.runs.stages import Pipeline

    pipeline = Pipeline(run, config, data, base=base)
    pipeline.check()
    run.write_config(config, pipeline.data, replace=False)
    yield pipeline
    run.write_config(config, pipeline.data)


def report_on(scoring: Scoring) -> Report:
    """Evaluates a run and leaves its report and page. On the main process."""
    report = scoring.evaluate()
    report.save(scoring.place.path)
    page = scoring.page(report)
    report.show(scoring.console)
    encoder = "encoder" if scoring.config.encoder.tuning == "full" else "adapter"
    for what, path in ((encoder, scoring.run.adaclip), ("report", scoring.place.report_text), ("motions", page)):
        scoring.console.print(f"{what:<8}{path}", soft_wrap=True)
    return report
