"""The verbs that make a run: demo, pipeline, base, extractors, evaluator, train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from adaqf_train.cli.options import (
    Flags,
    Overrides,
    RunOptions,
    WithSettings,
    open_run,
    opened,
    opened_pipeline,
    report_on,
)
from adaqf_train.config import POCKET_BASE, RunConfig, recipes

if TYPE_CHECKING:
    from adaqf_train.evaluation.report import Report
    from adaqf_train.runs.stages import Pipeline


@dataclass(frozen=True)
class Demo(WithSettings):
    """Run all stages on procedural motions: data, training, evaluation, page. Takes minutes on two cores, offline."""

    recipe: ClassVar[str] = "demo"
    out: Path = Path("runs/demo")  # Folder of the run.
    settings: Overrides = ()
    config: Annotated[RunConfig, Flags] = recipes.RECIPES["demo"]

    def __call__(self) -> None:
        from rich.console import Console

        from adaqf_train.data.prepare.procedural import is_procedural, prepare_procedural
        from adaqf_train.runs.outline import Outline

        config = self.config
        with open_run(self.out, config.training.precision) as run:
            data, outline = run.data, Outline.of(config, run, Console(quiet=not run.accelerator.is_main_process))
            outline.announce()
            settings = {"clips": config.synthetic.clips, "seed": config.synthetic.seed}

            def make() -> None:
                # A run that was killed here may have its data already.
                if run.accelerator.is_main_process and not is_procedural(data, **settings):
                    prepare_procedural(data, **settings)

            outline.begin("data")
            run.stage("data", settings, make)
            with opened_pipeline(run, config, data) as pipeline:
                report = _everything(pipeline, outline.begin)
            if report is not None:
                outline.end(report, run)


@dataclass(frozen=True)
class PipelineVerb(RunOptions):
    """Run all stages on a data set: base, extractors, evaluators, baseline, AdaQF, evaluation, page."""

    def __call__(self) -> None:
        with opened(self) as pipeline:
            _everything(pipeline)


@dataclass(frozen=True)
class BaseVerb(RunOptions):
    """Train the pocket CLIP only; `--base OUT/pocket_clip` then shares it between data sets (see prepare merged)."""

    def __call__(self) -> None:
        with opened(self) as pipeline:
            folder, _ = pipeline.base()
            pipeline.console.print(f"base {folder}", soft_wrap=True)


@dataclass(frozen=True)
class ExtractorsVerb(RunOptions):
    """Train the extractors that give feedback and both independent evaluators, after a pocket CLIP if there is one."""

    def __call__(self) -> None:
        with opened(self) as pipeline:
            pipeline.extractors()
            pipeline.evaluator()
            pipeline.joint_evaluator()


@dataclass(frozen=True)
class EvaluatorVerb(RunOptions):
    """Train the two independent evaluators only, for `evaluate --evaluator OUT`, and print the first one's fingerprint.

    A recipe with a pocket CLIP trains that first, because the evaluators use its tokenizer.
    """

    def __call__(self) -> None:
        from adaqf_train.judges.store import fingerprint_of

        with opened(self) as pipeline:
            pipeline.evaluator()
            pipeline.joint_evaluator()
            folder = pipeline.run.evaluator
            pipeline.console.print(f"evaluator {folder}\nsha256    {fingerprint_of(folder)}", soft_wrap=True)


@dataclass(frozen=True)
class Train(RunOptions):
    """Train AdaQF, the baseline, or both, after the networks they need."""

    arm: Literal["adaqf", "baseline", "both"] = "both"  # Which of the two to train.

    def __call__(self) -> None:
        with opened(self) as pipeline:
            for arm in ("baseline", "adaqf") if self.arm == "both" else (self.arm,):
                pipeline.train(arm)


def _everything(pipeline: Pipeline, begin: Callable[[str], None] = lambda stage: None) -> Report | None:
    """All stages; the report, on the main process. begin: is called with each stage's name before it."""
    from adaqf_train.runs.scoring import Scoring

    stages = {"pocket_clip": pipeline.base} if pipeline.config.encoder.base == POCKET_BASE else {}
    stages |= {name: getattr(pipeline, name) for name in ("extractors", "evaluator", "joint_evaluator")}
    stages["baseline"] = partial(pipeline.train, "baseline")
    stages |= {"aligned": pipeline.aligned} if pipeline.config.alignment.steps else {}
    stages["adaqf"] = partial(pipeline.train, "adaqf")
    for name, run in stages.items():
        begin(name)
        run()
    begin("evaluation")
    return report_on(Scoring(pipeline)) if pipeline.accelerator.is_main_process else None
