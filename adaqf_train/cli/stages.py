"""The verbs that make a run: demo, pipeline, base, extractors, evaluator, train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adaqf_train.cli.options import Overrides, RunOptions, open_run, opened, opened_pipeline, report_on
from adaqf_train.config import override, recipes
from adaqf_train.data.prepare import is_procedural, prepare_procedural

if TYPE_CHECKING:
    from adaqf_train.runs.stages import Pipeline


@dataclass(frozen=True)
class Demo:
    """Everything on procedural motions: data, training, evaluation, page. A few minutes on two cores, offline."""

    out: Path = Path("runs/demo")
    """The run's folder."""
    settings: Overrides = ()

    def __call__(self) -> None:
        config = override(recipes.load("demo"), self.settings)
        data = self.out / "data"
        with open_run(self.out, config.training.precision) as run:
            settings = {"clips": config.synthetic.clips, "seed": config.synthetic.seed}

            def make() -> None:
                # A run that was killed here may have its data already.
                if run.accelerator.is_main_process and not is_procedural(data, **settings):
                    prepare_procedural(data, **settings)

            run.stage("data", settings, make)
            with opened_pipeline(run, config, data) as pipeline:
                _everything(pipeline)


@dataclass(frozen=True)
class PipelineVerb:
    """All stages on a data set: base, extractors, evaluator, baseline, AdaQF, evaluation, page."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]

    def __call__(self) -> None:
        with opened(self.options) as pipeline:
            _everything(pipeline)


@dataclass(frozen=True)
class BaseVerb:
    """Trains the pocket CLIP alone, for `--base OUT/pocket_clip`: one base for several data sets (prepare merged)."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]

    def __call__(self) -> None:
        with opened(self.options) as pipeline:
            folder, _ = pipeline.base()
            pipeline.console.print(f"base {folder}", soft_wrap=True)


@dataclass(frozen=True)
class ExtractorsVerb:
    """Trains the pocket CLIP (if the recipe has one), the feedback's extractors and the independent evaluator."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]

    def __call__(self) -> None:
        with opened(self.options) as pipeline:
            pipeline.extractors()
            pipeline.evaluator()


@dataclass(frozen=True)
class EvaluatorVerb:
    """Trains the independent evaluator alone, with its fingerprint, for `evaluate --evaluator OUT`. A recipe with a
    pocket CLIP trains that first: the evaluator reads with its tokenizer."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]

    def __call__(self) -> None:
        from adaqf_train.judges.store import fingerprint_of

        with opened(self.options) as pipeline:
            pipeline.evaluator()
            folder = pipeline.run.evaluator
            pipeline.console.print(f"evaluator {folder}\nsha256    {fingerprint_of(folder)}", soft_wrap=True)


@dataclass(frozen=True)
class Train:
    """Trains AdaQF, the baseline, or both; what they need is trained first."""

    options: Annotated[RunOptions, tyro.conf.arg(name="")]
    arm: Literal["adaqf", "baseline", "both"] = "both"

    def __call__(self) -> None:
        with opened(self.options) as pipeline:
            for arm in ("baseline", "adaqf") if self.arm == "both" else (self.arm,):
                pipeline.train(arm)


def _everything(pipeline: Pipeline) -> None:
    from adaqf_train.runs.scoring import Scoring

    pipeline.extractors()
    pipeline.evaluator()
    for arm in ("baseline", "adaqf"):
        pipeline.train(arm)
    if pipeline.accelerator.is_main_process:
        report_on(Scoring(pipeline))
