"""The demo's outline: what it will do and for how long, where it is, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from rich.console import Console

from adaqf_train.config import POCKET_BASE, RunConfig
from adaqf_train.evaluation.report import Report, on_screen
from adaqf_train.evaluation.scores import ATTRIBUTE
from adaqf_train.runs.layout import ADAQF, BASELINE, RunLayout

TITLES = {
    "data": "make captioned motions of a procedural body",
    "pocket_clip": "train a small CLIP on still poses, the base",
    "extractors": "train the judge that gives feedback",
    "evaluator": "train the evaluator that gives the figures",
    "joint_evaluator": "train a second evaluator, on joints",
    "baseline": "train a generator on the frozen base",
    "aligned": "align the base's adapter with motions",
    "adaqf": "train a generator and the adapter with feedback",
    "evaluation": "generate motions with both, score them, draw the page",
}
# Seconds on two free cores: of a clip, of a step of the optimiser, of a step of sampling one motion at a guidance.
SECONDS = {
    "data": 0.0075,
    "pocket_clip": 0.08,
    "extractors": 0.105,
    "evaluator": 0.14,
    "joint_evaluator": 0.07,
    "baseline": 0.095,
    "aligned": 0.13,
    "adaqf": 0.175,
    "evaluation": 0.0011,
}
SPLITS = {"test": 0.183, "val": 0.076}  # shares of the procedural clips
FIXED = 20  # seconds of an evaluation that no sampling causes
# What a reader should see beside each other, and whether more is better.
GAINS = {"FID ↓": ("fid", False), "R@3 ↑": ("r_precision_3", True), "minimal pairs ↑": ("minimal_pairs", True)}
GAINS |= {f"{name} as the prompt says ↑": (ATTRIBUTE + name, True) for name in ("side", "direction", "turn")}
COSTS = {"foot skating ↓": ("skating", False), "jerk, distance to real ↓ (m/s³)": ("jerk", False)}


@dataclass
class Outline:
    """The stages of a demo with their seconds; prints them, and what is left of them before each."""

    stages: dict[str, float]
    console: Console
    finished: Collection[str] = ()  # by an earlier call
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    @classmethod
    def of(cls, config: RunConfig, run: RunLayout, console: Console) -> Outline:
        """The stages of a demo with these settings, without those that the run has finished."""
        units = dict(_units(config))
        seconds = {name: SECONDS[name] * count for name, count in units.items()}
        seconds["evaluation"] += FIXED
        return cls(seconds, console, set(run.stages()))

    def announce(self) -> None:
        """Say what will be done and about how long it takes; the time starts."""
        self.started = self.clock()
        left = sum(seconds for name, seconds in self.stages.items() if name not in self.finished)
        self._print(
            f"AdaQF in miniature, offline: {len(self.stages)} stages, about {_minutes(left)} on two free cores. Ctrl-C "
            "stops it, and the same command continues."
        )
        for number, (name, seconds) in enumerate(self.stages.items(), 1):
            when = "done" if name in self.finished else _minutes(seconds)
            self._print(f" {number}  {name:<16}{TITLES[name]:<54}{when:>9}")

    def begin(self, name: str) -> None:
        """Say which stage begins, and how much time is left at the pace so far."""
        names = list(self.stages)
        if name in self.finished:
            return
        before = [each for each in names[: names.index(name)] if each not in self.finished]
        done, passed = sum(self.stages[each] for each in before), self.clock() - self.started
        left = sum(self.stages[each] for each in names[names.index(name) :] if each not in self.finished)
        left *= min(max(passed / done, 0.5), 8.0) if done else 1.0
        times = f"{_minutes(passed)} passed, about {_minutes(left)} left" if before else f"about {_minutes(left)} left"
        self._print(f"[bold]\\[{names.index(name) + 1}/{len(names)}] {name}[/bold]: {times}")

    def end(self, report: Report, run: RunLayout) -> None:
        """Print AdaQF's gain and cost beside the baseline, and what to open."""
        seconds = {arm: run.stages()[arm]["seconds"] for arm in (BASELINE, ADAQF)}
        seconds[ADAQF] += run.stages().get("aligned", {}).get("seconds", 0.0)
        self.console.print(on_screen("What AdaQF gains, and what it costs", gain_and_cost(report, seconds)))
        spent = _minutes(self.clock() - self.started)
        self._print(f"{spent} in all. Open {run.page} in a browser: real and generated motions of the same prompts.")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)


def gain_and_cost(report: Report, seconds: dict[str, float]) -> list[dict[str, str]]:
    """Rows of figures of both arms; seconds: of each arm's training."""
    rows = []
    for title, (name, more) in (GAINS | COSTS).items():
        real, ours, theirs = (report.rows.get(arm, {}).get(name, {}).get("mean") for arm in ("gt", ADAQF, BASELINE))
        if ours is None or theirs is None:
            continue
        verdict = "equal" if ours == theirs else "better" if (ours > theirs) == more else "worse"
        shown = ["–" if value is None else f"{value:.3f}" for value in (real, theirs, ours)]
        rows.append(
            dict(zip(("figure", "real", "baseline", "AdaQF"), (title, *shown), strict=True)) | {"AdaQF is": verdict}
        )
    spent = [f"{seconds[arm]:.0f}" for arm in (BASELINE, ADAQF)]
    more = "longer" if seconds[ADAQF] > seconds[BASELINE] else "shorter"
    return [*rows, {"figure": "training (s)", "real": "–", "baseline": spent[0], "AdaQF": spent[1], "AdaQF is": more}]


def _units(config: RunConfig) -> Iterator[tuple[str, float]]:
    """How much of its unit in SECONDS each stage takes, in the order of the stages."""
    yield "data", config.synthetic.clips
    if config.encoder.base == POCKET_BASE:
        yield "pocket_clip", config.pocket_clip.steps
    for name in ("extractors", "evaluator", "joint_evaluator"):
        yield name, getattr(config, name).steps
    yield BASELINE, config.training.steps
    if config.alignment.steps:
        yield "aligned", config.alignment.steps
    yield ADAQF, config.training.steps
    yield "evaluation", config.sampling.steps * _sampled(config)


def _sampled(config: RunConfig) -> float:
    """Motions that the evaluation of both arms samples."""
    evaluation, clips = config.evaluation, config.synthetic.clips
    test = evaluation.procedural_test or SPLITS["test"] * clips
    val = evaluation.procedural_val if evaluation.procedural_test else SPLITS["val"] * clips
    most = evaluation.samples or test
    several = (evaluation.multimodality_texts or 0) * evaluation.multimodality_repeats
    points, repeats = len(evaluation.guidances), min(evaluation.curve_replications, evaluation.replications)
    curve = points * min(val, most) * evaluation.chooses + max(points - 1, 0) * min(test, most)
    return 2 * (evaluation.replications * (min(test, most) + several) + repeats * curve)


def _minutes(seconds: float) -> str:
    """A duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
