"""What follows training: a run's report and page, scores of other programs' motions, retrieval."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adaqf_train.config import RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import DataError, RunError
from adaqf_train.evaluation import columns, curve_report, protocol
from adaqf_train.evaluation.columns import DENOISED, FLOOR, NAMES
from adaqf_train.evaluation.curves import ArmCurve, Figures, choose, kept, mean_figures
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.evaluation.floor import evaluate_denoised, evaluate_floor
from adaqf_train.evaluation.manifest import hash_of_files, hash_of_motions, hash_of_weights, manifest
from adaqf_train.evaluation.motions import read_motions
from adaqf_train.evaluation.protocol import Row
from adaqf_train.evaluation.report import Report
from adaqf_train.evaluation.retrieval import JUDGES, retrieve_real
from adaqf_train.evaluation.scores import CaptionedMotions
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.judges.base import Evaluator
from adaqf_train.judges.official import find_checkpoint, load_official
from adaqf_train.motion.features import decode
from adaqf_train.motion.physics import MEASURES
from adaqf_train.render.page import Scene, Take, write_page
from adaqf_train.runs.evaluation_sets import EvaluationSets
from adaqf_train.runs.folder import RunFolder
from adaqf_train.runs.layout import ARMS, RunLayout, read_config
from adaqf_train.runs.stages import Pipeline
from adaqf_train.runs.validator import load_evaluator, load_extractors

PAGE_PROMPTS = 8


@dataclass(frozen=True)
class _Model:
    """A generator that is scored."""

    name: str
    generator: MotionGenerator
    weights: str  # a hash that distinguishes it from other generators of this name

    def sample(self, captions: Sequence[str], lengths: Sequence[int], seed: tuple[int, ...]) -> list[np.ndarray]:
        """Motions, with a bar of progress."""
        total = -(-len(captions) // self.generator.batch) * self.generator.steps
        with tqdm(total=total, desc=f"sampling {self.name}", unit="step", leave=False) as bar:
            return self.generator.generate_features(captions, lengths, seed=seed, on_step=bar.update)

    def set_guidance(self, guidance: float) -> None:
        self.generator.sampling = replace(self.generator.sampling, guidance=guidance)


class Scoring:
    """Scores a run on the split that its configuration names. For the main process only."""

    def __init__(self, pipeline: Pipeline, *, evaluator: Path | None = None, official: Path | None = None) -> None:
        """Prepare to score a run.

        evaluator: folder of an independent evaluator, or of a run that has one, in place of the run's own. official:
        folder of the official evaluators' files, to score with them as well.
        """
        self.run: RunFolder = pipeline.run
        self.config, self.console, self.data = pipeline.config, pipeline.console, pipeline.data
        self.inputs, self.official = pipeline.inputs, official
        split = self.config.evaluation.split
        self.sets = EvaluationSets.make(self.config, self.data)
        self.dataset: MotionDataset = getattr(self.sets, split) if self.sets else pipeline.dataset(split)
        self.val = self.dataset
        if self.config.evaluation.chooses:
            self.val = self.sets.val if self.sets else pipeline.dataset("val")
        self._split = pipeline.dataset(split)
        self.curves: dict[str, ArmCurve] = {}  # of the generators that were scored
        self.device = pipeline.accelerator.device
        evaluator = None if evaluator is None else store.located(evaluator)
        inside = self.run.evaluator if evaluator is None else RunLayout(evaluator).evaluator
        self.evaluator = inside if evaluator is None or inside.is_dir() else evaluator
        beside = self.evaluator.with_name(self.run.joint_evaluator.name)  # of the same run; earlier versions had none
        self.joint_evaluator = beside if beside.is_dir() else None
        self._seconds: dict[str, dict[str, float]] = {"rows": {}, "curves": {}}

    def evaluate(self) -> Report:
        """Score the ground truth, the trained arms, and the judges' retrieval of real motions."""
        arms = self._trained()
        rows = {"gt": self.row("gt"), FLOOR: self.floor()} | {arm: self.row(arm) for arm in arms}
        rows |= {DENOISED + arm: self.denoised(arm) for arm in arms}
        rows = {name: row for name, row in rows.items() if row}
        counts = protocol.sample_counts(self.dataset, self.config.evaluation)
        models = {arm: hash_of_weights(self.run.verified(arm)) for arm in arms}
        return Report.of(rows, self._manifest(counts, {"models": models}), self.retrieval(), self.curves)

    def row(self, arm: str) -> Row:
        """Score a trained arm, or the real motions ("gt")."""
        if arm == "gt":
            return self.score(arm, None, "")
        generator = MotionGenerator.from_pretrained(self.run.verified(arm), device=self.device)
        generator.sampling = self.config.sampling
        return self.score(arm, generator, hash_of_weights(self.run / arm))

    def floor(self) -> Row:
        """Score one half of the real motions against the other half; empty if they come from too few clips."""
        evaluate = partial(evaluate_floor, self.dataset, self.judges, self.config.evaluation)
        return self._timed(FLOOR, evaluate, self._progress(FLOOR, ""))

    def denoised(self, arm: str) -> Row:
        """Score what the denoiser of a trained arm makes of the real motions at the last timestep."""
        generator = MotionGenerator.from_pretrained(self.run / arm, device=self.device)
        name, weights = DENOISED + arm, hash_of_weights(self.run / arm)

        def denoise(motions, captions, seed):
            return generator.denoised(motions, captions, seed=seed)

        evaluate = partial(
            evaluate_denoised, denoise, self.dataset, self.judges, self.config.evaluation, sets=self._real
        )
        # Earlier versions compared with crops of the same clips even where there is a further reference.
        return self._timed(name, evaluate, self._progress(name, weights + "+reference" * bool(self._real)))

    def score(self, name: str, generator: MotionGenerator | None, weights: str, *, curve: bool = True) -> Row:
        """Score a generator of any family, or the real motions.

        With `evaluation.guidances`, the generator gets the guidance that its figures on val choose, and `curves` its
        curve. weights: a hash that distinguishes it from other generators of this name. curve: False scores it as it
        is.
        """
        started, model = time.monotonic(), generator and _Model(name, generator, weights)
        curve = curve and model is not None and bool(self.config.evaluation.guidances)
        val = self._choose(model) if curve and self.config.evaluation.chooses else {}
        progress = self._progress(name, weights, generator)
        row = self._row(name, model and model.sample, progress)
        if curve:
            done = protocol.read_progress(progress)["replications"][: _repeats(self.config)]
            self.curves[name] = self._curve(model, val, [kept(figures) for figures in done])
        self.console.print(f"[bold]·[/bold] {NAMES.get(name, name)}: evaluated in {time.monotonic() - started:.0f} s")
        return row

    def _choose(self, model: _Model) -> dict[float, list[Figures]]:
        """Figures on val at every guidance; the generator gets the best one."""
        val = {g: self._point(model, self.val, g) for g in _guidances(model.generator, self.config)}
        chosen = choose({g: mean_figures(rows) for g, rows in val.items()}, self.config.evaluation.choose)
        model.set_guidance(chosen)
        return val

    def _curve(self, model: _Model, val: dict[float, list[Figures]], done: list[Figures]) -> ArmCurve:
        """The curve of a generator that has its guidance. done: that point's replications, those of the main table."""
        chosen = model.generator.sampling.guidance
        others = [g for g in val or _guidances(model.generator, self.config) if g != chosen]
        test = {chosen: done} | {g: self._point(model, self.dataset, g) for g in others}
        model.set_guidance(chosen)
        return ArmCurve(chosen, test, val)

    def _point(self, model: _Model, dataset: MotionDataset, guidance: float) -> list[Figures]:
        """Figures of each replication at a guidance, which the generator keeps."""
        model.set_guidance(guidance)
        name = f"{model.name}_{dataset.split}_{guidance:g}"
        progress = self._progress(name, model.weights, model.generator, dataset)
        evaluation, repeats = self.config.evaluation, _repeats(self.config)
        sets = self._real if dataset is self.dataset else None
        rows = protocol.sketch(model.sample, dataset, self.judges, evaluation, repeats, sets=sets, progress=progress)
        spent = sum(protocol.read_progress(progress)["seconds"][:repeats])
        spent += self._seconds["curves"].get(model.name, 0.0)
        self._seconds["curves"][model.name] = round(spent, 1)
        return [kept(row) for row in rows]

    def evaluate_motions(self, path: Path) -> Report:
        """Score motions that another program wrote (`read_motions`), beside the ground truth."""
        self.sets, self.dataset = None, self._split  # whose clips they name
        found = read_motions(path, self.dataset)
        # Real motions are scored in pools of the same size: fewer candidates make retrieval easier.
        own, number = replace(self.config.evaluation, procedural_test=None, guidances=()), len(found)
        evaluation = replace(own, pool=min(own.pool, number), diversity_pairs=min(own.diversity_pairs, number // 2))
        self.config = replace(self.config, evaluation=evaluation)
        name = path.stem if path.is_file() else path.resolve().name
        name = f"motions {name}" if name in NAMES else name  # our own rows have the other names
        key = hash_of_motions(found.captions, found.motions)
        theirs = self._row(name, found, self._progress("motions", key))
        rows = {"gt": self.row("gt"), name: theirs}
        counts = protocol.sample_counts(self.dataset, evaluation, motions=number)
        return Report.of(rows, self._manifest(counts, {"models": {}, "motions": {name: key}, "guidance_rule": None}))

    def retrieval(self) -> dict[str, dict[str, Row]]:
        """Retrieval of real motions by their captions and back (Table 8): {judge: {set: row}}."""
        judges = {name: judge for name in JUDGES if (judge := getattr(self.judges, name)) is not None}
        progress = {name: self._progress(f"retrieval_{name}", name) for name in judges}
        return retrieve_real(self.dataset, judges, self.config.evaluation, progress)

    @property
    def place(self) -> RunLayout:
        """Where report and page go: the run's folder, or a folder in it for a split that is not the run's own."""
        own, split = read_config(self.run.path)[0].evaluation.split, self.config.evaluation.split
        return self.run if split == own else RunLayout(self.run.path / split)

    def page(self, report: Report) -> Path:
        """Write motions.html: the same prompts for ground truth, baseline and AdaQF, side by side."""
        evaluation = replace(self.config.evaluation, protocol="full", max_samples=PAGE_PROMPTS)
        sampled = protocol.draw(self.dataset, evaluation, 0)
        takes = {"gt": sampled.motions}
        for arm in self._trained():
            generator = MotionGenerator.from_pretrained(self.run.verified(arm), device=self.device)
            generator.sampling = self.config.sampling
            if arm in self.curves:
                generator.sampling = replace(generator.sampling, guidance=self.curves[arm].chosen)
            takes[arm] = generator.generate_features(sampled.captions, sampled.lengths, seed=evaluation.seed)
        metres = self.dataset.skeleton.units_per_metre
        notes = {arm: f"guidance {curve.chosen:g}" for arm, curve in self.curves.items()}
        scenes = [
            Scene(caption, tuple(Take(NAMES[arm], decode(takes[arm][i]) / metres, notes.get(arm, "")) for arm in takes))
            for i, caption in enumerate(sampled.captions)
        ]
        try:
            return write_page(
                self.place.page,
                scenes,
                title=f"AdaQF on {self.config.recipe}: the same prompts, three motions",
                fps=self.dataset.fps,
                summary=columns.table(report.rows, columns.HEADLINE),
                more=dict(curve_report.tables(report.curves)),
                picture=self.place.path / curve_report.FIGURE if report.curves else None,
            )
        except ValueError as error:  # motions that no page can show, such as those of a guidance of a million
            raise DataError(f"{self.place.page}: not written; the report is. {error}") from error

    @cached_property
    def judges(self) -> Judges:
        """The two independent evaluators, the feedback's extractors, and the official evaluators if asked for."""
        stages = self.run.stages()
        if self.evaluator == self.run.evaluator and "evaluator" not in stages:
            raise RunError(f"{self.evaluator}: not trained yet. Run: adaqf evaluator with this run's options.")
        learnt = [stages[name]["settings"]["train"] for name in ("pocket_clip", "evaluator") if name in stages]
        for name in ("pocket_clip", "extractors", "evaluator", "joint_evaluator"):
            self.run.verified(name)
        if any(train != self.inputs["train"] for train in learnt):
            raise RunError(f"{self.data}: not the data this run was trained on. Give their new place with --data.")
        extractors = None  # a run without feedback has none
        if "extractors" in stages:
            extractors = load_extractors(self.run.extractors, self.dataset, self.device)
        evaluator = self._evaluator(self.evaluator)
        joints = self.joint_evaluator and self._evaluator(self.joint_evaluator)
        official = self.official and load_official(self.official, self.data, self.device)
        judges = Judges(evaluator, extractors, official, joints)
        return self.sets.knowing(judges) if self.sets else judges

    def _evaluator(self, folder: Path) -> Evaluator:
        evaluator = load_evaluator(folder, self.device)
        if len(evaluator.mean) != self.dataset.features:
            raise DataError(
                f"{folder}: reads {len(evaluator.mean)} features a frame, but {self.data} has "
                f"{self.dataset.features}. Give an evaluator that was trained on such data."
            )
        return evaluator

    @property
    def _real(self) -> protocol.RealSets | None:
        """Further real motions that the test set is scored with; val is scored by itself."""
        return self.sets.real if self.sets and self.dataset is self.sets.test else None

    @cached_property
    def hashes(self) -> dict[str, str | None]:
        """What identifies each judge: a hash of its weights."""
        judges, official = self.judges, None
        if self.official:
            judge, glove = judges.official, sorted(self.official.rglob("our_vab_*"))
            statistics = [part.tobytes().hex() for part in (judge.mean, judge.std)]
            official = digest([hash_of_files([find_checkpoint(self.official), *glove]), *statistics])
        return {
            "evaluator": store.fingerprint_of(self.evaluator),
            "extractors": hash_of_weights(self.run.extractors) if "extractors" in self.run.stages() else None,
            "official": official,
            "joint_evaluator": self.joint_evaluator and store.fingerprint_of(self.joint_evaluator),
        }

    def _row(self, name: str, source: protocol.Generate | CaptionedMotions | None, progress: Path) -> Row:
        evaluate = partial(
            protocol.evaluate, source, self.dataset, self.judges, self.config.evaluation, sets=self._real
        )
        return self._timed(name, evaluate, progress)

    def _timed(self, name: str, evaluate: Callable[..., Row], progress: Path) -> Row:
        """A row, which evaluate(progress=…) computes."""
        row = evaluate(progress=progress)
        # Replications of an earlier, interrupted call count with the time that they took then.
        if row:
            self._seconds["rows"][name] = round(sum(protocol.read_progress(progress)["seconds"]), 1)
        return row

    def _manifest(self, counts: Mapping[str, object], hashes: Mapping[str, object]) -> dict[str, object]:
        stages = {name: entry["seconds"] for name, entry in self.run.stages().items()}
        return manifest(
            self.config,
            self.dataset,
            {**counts, "procedural": self.sets.counts if self._real else None},
            hashes=self.hashes | hashes,
            seconds={"stages": stages, **self._seconds},
            judge=self.judges.evaluator,
        )

    def _progress(
        self,
        name: str,
        scored: str,
        generator: MotionGenerator | None = None,
        dataset: MotionDataset | None = None,
    ) -> Path:
        """Where replications are kept: one file for everything that they depend on, except their number.

        dataset: for a point of a curve, which depends on the independent evaluator alone.
        """
        evaluation = asdict(self.config.evaluation) | {"replications": None}
        for free in ("guidances", "choose", "curve_replications"):
            del evaluation[free]  # they say what is scored, not how
        for size in ("procedural_test", "procedural_val", "procedural_reference"):
            del evaluation[size]  # the fingerprints tell
        sets = self.sets.fingerprint if self._real and dataset in (None, self.dataset) else None
        key = {
            "scored": scored,
            "judges": self.hashes if dataset is None else self.hashes["evaluator"],
            "data": (dataset or self.dataset).fingerprint(),
            "evaluation": evaluation,
            "sampling": None if generator is None else asdict(generator.sampling),
            # Figures of an earlier version lack some of them.
            "physics": sorted(MEASURES) if dataset is None else None,
        } | ({"sets": sets} if sets else {})
        return self.run.evaluation / f"{name}_{digest(key)}.json"

    def _trained(self) -> list[str]:
        arms = [arm for arm in ARMS if arm in self.run.stages()]
        if not arms:
            raise RunError(f"{self.run.path}: no generator is trained yet. Run: adaqf train with this run's options.")
        return arms


def _guidances(generator: MotionGenerator, config: RunConfig) -> list[float]:
    """The guidances of a generator's curve, in order, with its own one if none is chosen."""
    own, common, evaluation = generator.sampling.guidance, config.sampling.guidance, config.evaluation
    scale = own / common if own and common else 1.0
    found = {round(scale * g, 6) for g in evaluation.guidances}
    return sorted(found if evaluation.chooses else found | {own})


def _repeats(config: RunConfig) -> int:
    return min(config.evaluation.curve_replications, config.evaluation.replications)
