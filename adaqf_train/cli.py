"""The verbs of `run.py`; each class is one verb and its options."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adaclip import AdaCLIPError
from adaqf_train import recipes
from adaqf_train.cli_prepare import Prepare
from adaqf_train.config import ConfigError, RunConfig, override
from adaqf_train.data.prepare import is_synthetic, prepare_synthetic

if TYPE_CHECKING:
    from adaqf_train.evaluation.report import Report
    from adaqf_train.pipeline import Pipeline
    from adaqf_train.run_folder import RunFolder

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


@dataclass(frozen=True)
class Demo:
    """Everything on procedural motions: data, training, evaluation, page. A few minutes on two cores, offline."""

    out: Path = Path("runs/demo")
    """The run's folder."""
    settings: Overrides = ()

    def __call__(self) -> None:
        config = override(recipes.load("demo"), self.settings)
        data = self.out / "data"
        with _open_run(self.out, config.training.precision) as run:
            settings = {"clips": config.synthetic.clips, "seed": config.synthetic.seed}

            def make() -> None:
                # A run that was killed here may have its data already.
                if run.accelerator.is_main_process and not is_synthetic(data, **settings):
                    prepare_synthetic(data, **settings)

            run.stage("data", settings, make)
            with _pipeline(run, config, data) as pipeline:
                _everything(pipeline)


@dataclass(frozen=True)
class PipelineVerb:
    """All stages on a data set: base, extractors, evaluator, baseline, AdaQF, evaluation, page."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]

    def __call__(self) -> None:
        with _opened(self.options) as pipeline:
            _everything(pipeline)


@dataclass(frozen=True)
class ExtractorsVerb:
    """Trains the pocket CLIP (if the recipe has one), the feedback's extractors and the independent evaluator."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]

    def __call__(self) -> None:
        with _opened(self.options) as pipeline:
            pipeline.extractors()
            pipeline.evaluator()


@dataclass(frozen=True)
class Train:
    """Trains AdaQF, the baseline, or both; what they need is trained first."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]
    arm: Literal["adaqf", "baseline", "both"] = "both"

    def __call__(self) -> None:
        with _opened(self.options) as pipeline:
            for arm in ("baseline", "adaqf") if self.arm == "both" else (self.arm,):
                pipeline.train(arm)


@dataclass(frozen=True)
class Evaluate:
    """Scores a finished run again, on test or val, and writes its report."""

    run: Path
    """Folder of a finished run."""
    data: Path | None = None
    """Where its data are now, if they have moved."""
    motions: Path | None = None
    """Motions that another program wrote, to be scored by the run's evaluator instead of its generators: a folder of
    NAME.npy (features or joints), or MDM's results.npy."""
    out: Path | None = None
    """With --motions: folder for their report; none: only the screen."""
    official: Path | None = None
    """Folder with the official evaluators (text_mot_match/model/finest.tar) and glove/, at any depth: score with them
    as well. Exit code 3 when the real motions do not get the figures they are known to get."""
    settings: Overrides = ()
    """Of the groups evaluation and sampling: what was trained is trained."""

    def __call__(self) -> int:
        """Returns 3 when the figures cannot be compared with the literature's, else 0."""
        from adaqf_train.pipeline import Pipeline
        from adaqf_train.run_folder import read_config

        for setting in self.settings:
            if not setting.strip().startswith(("evaluation.", "sampling.")):
                raise ConfigError(f"--set {setting}: evaluate takes settings of evaluation and sampling only.")
        config, data = read_config(self.run)
        with _open_run(self.run) as run:
            pipeline = Pipeline(run, override(config, self.settings), self.data or data)
            if not run.accelerator.is_main_process:
                return 0
            if self.motions is None:
                report = _report(pipeline, self.official)
            else:
                report = pipeline.evaluate_motions(self.motions, self.official)
                report.show(pipeline.console)
                if self.out is not None:
                    report.save(self.out)
            return 0 if report.comparable else 3


@dataclass(frozen=True)
class Compare:
    """Reports side by side, with their intervals, and the paper's rows if asked for."""

    reports: tyro.conf.Positional[tuple[Path, ...]]
    """report.json files, or runs that have one."""
    paper: tyro.conf.UseAppendAction[tuple[int, ...]] = ()
    """Number of a table of the paper to show beside them. Repeatable."""
    mix: bool = False
    """Allow reports of different protocols in one table, and say so under it."""

    def __call__(self) -> None:
        from adaqf_train.experiments.compare import compare
        from adaqf_train.experiments.paper import tables_of

        tables = [table for number in self.paper for table in tables_of(number)]
        print(compare(self.reports, tables, mix=self.mix).markdown())


@dataclass(frozen=True)
class Sample:
    """Motions from prompts with a trained generator; needs no data set."""

    model: Path
    """A generator's folder, such as runs/demo/adaqf."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]]
    """What happens. Repeatable: one motion each."""
    out: Path
    """FILE.npy: joints (prompts, frames, 22, 3), metres. FILE.html: a page that plays them."""
    seconds: float = 4.0
    seed: int = 0

    def __call__(self) -> None:
        import numpy as np

        from adaclip.files import atomic_file
        from adaqf_train.models.generator import MotionGenerator
        from adaqf_train.viewing.page import Scene, Take, write_page

        if self.out.suffix not in (".npy", ".html"):
            raise ConfigError(f"--out {self.out}: cannot write {self.out.suffix or 'that'}; name a .npy or .html file.")
        if not self.prompt:
            raise ConfigError("--prompt is missing: say what happens, such as --prompt 'a person waves twice'.")
        if self.seed < 0:
            raise ConfigError(f"--seed must not be negative, got {self.seed}.")
        generator = MotionGenerator.from_pretrained(self.model)
        motions = generator.generate(self.prompt, seconds=self.seconds, seed=self.seed)
        if self.out.suffix == ".html":
            scenes = [Scene(p, (Take(self.model.name, m),)) for p, m in zip(self.prompt, motions, strict=True)]
            write_page(self.out, scenes, title="Motions", fps=generator.skeleton.fps)
        else:
            with atomic_file(self.out) as staging, staging.open("wb") as file:
                np.save(file, np.stack(motions).astype(np.float32))
        print(f"wrote {self.out}")


@dataclass(frozen=True)
class Doctor:
    """Examines a data folder: what is missing, broken, doubled or leaking, and what to do about it."""

    folder: tyro.conf.Positional[Path]
    """Folder in HumanML3D's layout, 263-d or 251-d."""
    json: bool = False
    """Print findings and facts as JSON, and nothing else."""
    gallery: Path | None = None
    """FILE.html: also write a page that plays sample clips with their captions."""

    def __call__(self) -> int:
        """Returns 1 when there is an error, else 0."""
        import json

        from rich.console import Console

        from adaqf_train.data.doctor import examine
        from adaqf_train.viewing.gallery import write_gallery

        if self.gallery is not None and self.gallery.suffix != ".html":
            raise ConfigError(f"--gallery {self.gallery}: a page is written; name a .html file.")
        found = examine(self.folder)
        if self.json:
            print(json.dumps(found.to_dict(), indent=2))
        else:
            # Not on a terminal, lines of 80 columns would only cut file names in two.
            found.show(Console() if sys.stdout.isatty() else Console(width=140))
        if self.gallery is not None:
            shown = write_gallery(self.gallery, found)
            what = f"wrote {self.gallery}: {shown} clips" if shown else "no gallery: there is no clip to show"
            print(what, file=sys.stderr)  # stdout is the examination's, which another program may read
        return 0 if found.ok else 1


Verb = (
    Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[ExtractorsVerb, tyro.conf.subcommand("extractors")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[PipelineVerb, tyro.conf.subcommand("pipeline")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code. Bad input is one line on stderr and 1."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verb = tyro.cli(Verb, args=arguments or ["demo"], prog="run.py", description=__doc__)
    _quiet_libraries()
    try:
        return verb() or 0
    except (AdaCLIPError, OSError) as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there", file=sys.stderr)
        return 130


def _quiet_libraries() -> None:
    """Leaves the screen to our own progress: models of a megabyte need no bars for loading and writing."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    # transformers warns about an attribute that peft reads; there is nothing a user could do about it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)


@contextmanager
def _open_run(out: Path, precision: str | None = None) -> Iterator[RunFolder]:
    """The run's folder, locked, with accelerate and the threads set up."""
    import torch
    from accelerate import Accelerator

    from adaqf_train.run_folder import RunFolder

    # accelerate and torchrun export OMP_NUM_THREADS=1, which halves the speed on a CPU. Any other number, and any
    # number without a launcher, is the user's.
    launched = "LOCAL_RANK" in os.environ or any(name.startswith("ACCELERATE_") for name in os.environ)
    if launched and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    run = RunFolder(out, Accelerator(mixed_precision=precision))
    with run.locked():
        yield run
    run.accelerator.end_training()


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _opened(options: RunOptions) -> Iterator[Pipeline]:
    config = options.config()
    with _open_run(options.out, config.training.precision) as run:
        if options.reuse is not None:
            run.borrow_from(options.reuse)
        with _pipeline(run, config, options.data, options.base) as pipeline:
            yield pipeline


@contextmanager
def _pipeline(run: RunFolder, config: RunConfig, data: Path, base: Path | None = None) -> Iterator[Pipeline]:
    """The stages of a run, whose run.json is brought up to date once nothing was refused."""
    from adaqf_train.pipeline import Pipeline

    pipeline = Pipeline(run, config, data, base=base)
    pipeline.check()
    run.write_config(config, pipeline.data, replace=False)
    yield pipeline
    run.write_config(config, pipeline.data)


def _everything(pipeline: Pipeline) -> None:
    pipeline.extractors()
    pipeline.evaluator()
    for arm in ("baseline", "adaqf"):
        pipeline.train(arm)
    if pipeline.accelerator.is_main_process:
        _report(pipeline)


def _report(pipeline: Pipeline, official: Path | None = None) -> Report:
    """Evaluates a run and leaves its report and page. On the main process."""
    report = pipeline.evaluate(official)
    report.save(pipeline.run.path)
    page = pipeline.page(report)
    report.show(pipeline.console)
    for what, path in (("adapter", "adaclip"), ("report", "report.md"), ("motions", page.name)):
        pipeline.console.print(f"{what:<8}{pipeline.run / path}", soft_wrap=True)
    return report
