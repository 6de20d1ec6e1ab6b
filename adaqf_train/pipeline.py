"""The stages of a run, in order: base, extractors, evaluator, baseline, AdaQF, evaluation, page."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console
from tqdm import tqdm

from adaclip import hub
from adaclip.files import atomic_folder
from adaqf_train.config import POCKET_BASE, RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import DataError, check_split_lists
from adaqf_train.data.official import locate
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.evaluators import Evaluator
from adaqf_train.evaluation.motions import read_motions
from adaqf_train.evaluation.report import Report
from adaqf_train.evaluation.t2m import load_official
from adaqf_train.models import store
from adaqf_train.models.generator import MotionGenerator
from adaqf_train.motion.features import decode
from adaqf_train.run_folder import RunError, RunFolder
from adaqf_train.training import fit_adaqf, fit_contrastive
from adaqf_train.viewing.page import Scene, Take, write_page

ARMS = ("baseline", "adaqf")
LABELS = {"gt": "ground truth", "baseline": "baseline", "adaqf": "AdaQF"}
PAGE_PROMPTS = 8


class Pipeline:
    """One run on one data set. Every method is a stage: it does its work once, and earlier stages first."""

    def __init__(
        self, run: RunFolder, config: RunConfig, data: Path, *, base: Path | None = None, console: Console | None = None
    ) -> None:
        """data: the data set's folder, or one that holds it. base: a folder of a CLIP text model to use as the base,
        whatever the recipe says.
        """
        self.run, self.config, self.data, self.base_folder = run, config, locate(data), base
        self.accelerator: Accelerator = run.accelerator
        self.console = console or Console(quiet=not self.accelerator.is_main_process)
        self._datasets: dict[str, MotionDataset] = {}
        check_split_lists(self.data)
        self.inputs = {"data": asdict(config.data), "train": self.dataset("train").fingerprint()}

    def dataset(self, split: str) -> MotionDataset:
        """A split of the data, read once."""
        if split not in self._datasets:
            dataset = self._datasets[split] = MotionDataset(self.data, split, self.config.data)
            out = f", {dataset.left_out} left out for their length" if dataset.left_out else ""
            self._say(f"{split}: {len(dataset)} captioned motions{out}")
        return self._datasets[split]

    def check(self) -> None:
        """Finds what would fail after all the training: the evaluation's split, and batches larger than the data."""
        evaluation, train = self.config.evaluation, self.dataset("train")
        protocol.check_samples(self.dataset(evaluation.split))
        parts = ["extractors", "evaluator", "training"]
        parts += ["pocket_clip"] if self.config.encoder.base == POCKET_BASE and self.base_folder is None else []
        for part in parts:
            batch = getattr(self.config, part).batch
            if batch > len(train):
                raise DataError(
                    f"{train.folder}: the train split has {len(train)} items, fewer than {part}.batch ({batch}). "
                    f"Lower it: --set {part}.batch={len(train)}."
                )

    def base(self) -> tuple[str, str]:
        """The CLIP text encoder to adapt, a folder or a Hub id, and a digest of what it is.

        A pocket recipe's lies in the run; any other is used where it is.
        """
        name = self.config.encoder.base
        if name != POCKET_BASE:
            name = str(self.base_folder or name)
            return name, _weights_digest(Path(name)) if Path(name).is_dir() else name
        folder = self.run / "pocket_clip"
        settings = {"base": _weights_digest(self.base_folder)} if self.base_folder else asdict(self.config.pocket_clip)

        def make() -> None:
            if self.base_folder:
                hub.load_base(str(self.base_folder), hub.LoadOptions(local_files_only=True))
                if self.accelerator.is_main_process:
                    with atomic_folder(folder) as staging:
                        shutil.copytree(self.base_folder, staging, dirs_exist_ok=True)
                return
            self._say("Pocket CLIP: a text encoder trained against still poses")
            model, tokenizer = fit_contrastive.fit_pocket_clip(
                self.accelerator, self.dataset("train"), self.config.pocket_clip, self._log("pocket_clip")
            )
            if self.accelerator.is_main_process:
                store.save_clip(folder, model, tokenizer)

        return str(folder), self.run.stage("pocket_clip", settings | self.inputs, make)

    def extractors(self) -> str:
        """Trains the feedback's extractors; returns their digest."""
        base, base_key = self.base()

        def make() -> None:
            self._say("Extractors: text and motion into one space (Eq. 2)")
            model, tokenizer = hub.load_base(base, hub.LoadOptions())
            words = model.get_input_embeddings().weight.detach()
            train = self.dataset("train")
            extractors = fit_contrastive.fit_extractors(
                self.accelerator, train, tokenizer, words, self.config.extractors, self._log("extractors")
            )
            if self.accelerator.is_main_process:
                folder = self.run / "extractors"
                store.save_extractors(folder, extractors, train.features, self.config.extractors, tokenizer)

        settings = asdict(self.config.extractors) | self.inputs | {"base": base_key}
        return self.run.stage("extractors", settings, make)

    def evaluator(self) -> str:
        """Trains the independent evaluator; returns its digest."""
        base, base_key = self.base()

        def make() -> None:
            self._say("Evaluator: independent of the extractors")
            _, tokenizer = hub.load_base(base, hub.LoadOptions())
            train = self.dataset("train")
            matcher = fit_contrastive.fit_evaluator(
                self.accelerator, train, tokenizer, self.config.evaluator, self._log("evaluator")
            )
            if self.accelerator.is_main_process:
                store.save_evaluator(self.run / "evaluator", matcher, train.features, self.config.evaluator, tokenizer)

        settings = asdict(self.config.evaluator) | self.inputs | {"tokenizer": base_key}
        return self.run.stage("evaluator", settings, make)

    def train(self, arm: str) -> str:
        """Trains the baseline or AdaQF; returns its digest. AdaQF's adapter is also written to adaclip/."""
        config = self.config if arm == "adaqf" else self.config.baseline()
        base, base_key = self.base()
        parts = ("encoder", "denoiser", "diffusion", "feedback", "training")
        settings = {part: asdict(getattr(config, part)) for part in parts} | self.inputs | {"base": base_key}
        extractors = None
        if config.feedback.active:
            settings["extractors"] = self.extractors()
            extractors, _ = store.load_extractors(self.run / "extractors")

        def make() -> None:
            self._say(f"{LABELS[arm]}: training the generator")
            generator = fit_adaqf.fit(
                self.accelerator,
                self.dataset("train"),
                base,
                extractors,
                config,
                name=arm,
                # What was trained with other settings is never gone on with.
                checkpoints=self.run / "checkpoints" / arm / digest(settings),
                log=self._log(arm),
            )
            if self.accelerator.is_main_process:
                if arm == "adaqf":
                    generator.encoder.save_pretrained(self.run / "adaclip")
                generator.save_pretrained(self.run / arm)

        return self.run.stage(arm, settings, make)

    def evaluate(self, official: Path | None = None) -> Report:
        """Scores ground truth and the arms that are trained, on the main process.

        official: folder of the official evaluators' files, to score with them as well.
        """
        dataset, judges = self.dataset(self.config.evaluation.split), self._judges(official)
        rows = {}
        for arm in ("gt", *self._trained()):
            started = time.monotonic()
            rows[arm] = self._row(arm, dataset, judges)
            self._say(f"{LABELS[arm]}: evaluated in {time.monotonic() - started:.0f} s")
        return self._report(rows, dataset, protocol.sample_counts(dataset, self.config.evaluation))

    def evaluate_motions(self, path: Path, official: Path | None = None) -> Report:
        """Scores motions that another program wrote, beside the ground truth, with this run's evaluator."""
        evaluation = self.config.evaluation
        dataset, judges = self.dataset(evaluation.split), self._judges(official)
        found = read_motions(path, dataset)
        theirs = protocol.evaluate_motions(
            found.captions,
            found.motions,
            dataset,
            judges.evaluator,
            evaluation,
            judge=judges.extractors,
            official=judges.official,
        )
        counts = protocol.sample_counts(dataset, evaluation, motions=len(found.motions))
        return self._report({"gt": self._row("gt", dataset, judges), path.stem: theirs}, dataset, counts)

    def _judges(self, official: Path | None) -> protocol.Judges:
        """The independent evaluator, the feedback's extractors, and the official evaluators if asked for."""
        stages = self.run.stages()
        dataset = self.dataset(self.config.evaluation.split)
        for name, verb in (("extractors", "extractors"), ("evaluator", "extractors")):
            if name not in stages:
                raise RunError(f"{self.run / name}: not trained yet. Run: run.py {verb} with this run's options.")
        if stages["evaluator"]["settings"]["train"] != self.inputs["train"]:
            raise RunError(f"{self.data}: not the data this run was trained on. Give their place now with --data.")
        device = self.accelerator.device
        judges = []
        for load, name in ((store.load_evaluator, "evaluator"), (store.load_extractors, "extractors")):
            towers, tokenizer = load(self.run / name)
            judges.append(Evaluator(towers.to(device), tokenizer, dataset.mean, dataset.std))
        return protocol.Judges(*judges, official and load_official(official, self.data, device))

    def _row(self, arm: str, dataset: MotionDataset, judges: protocol.Judges) -> dict:
        return protocol.evaluate(
            None if arm == "gt" else self._sampler(arm),
            dataset,
            judges.evaluator,
            self.config.evaluation,
            judge=judges.extractors,
            official=judges.official,
            progress=self._evaluation_progress(arm, dataset, official=judges.official is not None),
        )

    def _report(self, rows: dict, dataset: MotionDataset, counts: Mapping[str, object]) -> Report:
        stages = self.run.stages()
        seconds = {name: entry["seconds"] for name, entry in stages.items()}
        return Report.of(rows, self.config, counts, dataset, seconds, stages["evaluator"]["digest"])

    def page(self, report: Report) -> Path:
        """motions.html: the same prompts for ground truth, baseline and AdaQF, side by side."""
        evaluation = replace(self.config.evaluation, max_samples=PAGE_PROMPTS)
        dataset = self.dataset(evaluation.split)
        sampled = protocol.draw(dataset, evaluation, 0)
        takes = {"gt": sampled.motions}
        for arm in self._trained():
            takes[arm] = self._load(arm).generate_features(sampled.captions, sampled.lengths, seed=evaluation.seed)
        unit = dataset.skeleton.units_per_metre
        scenes = [
            Scene(caption, tuple(Take(LABELS[arm], decode(takes[arm][i]) / unit) for arm in takes))
            for i, caption in enumerate(sampled.captions)
        ]
        return write_page(
            self.run / "motions.html",
            scenes,
            title=f"AdaQF on {self.config.recipe}: the same prompts, three motions",
            fps=dataset.fps,
            summary=report.table(),
        )

    def _evaluation_progress(self, arm: str, dataset: MotionDataset, *, official: bool) -> Path:
        """Where the replications of a row are kept: a file for all that they depend on but their number."""
        stages = self.run.stages()
        key = {
            "scored": [stages[name]["digest"] for name in (arm, "evaluator", "extractors") if name in stages],
            "data": dataset.fingerprint(),
            "evaluation": asdict(self.config.evaluation) | {"replications": None},
            "sampling": asdict(self.config.sampling) if arm != "gt" else None,
            "official": official,
        }
        return self.run / "evaluation" / f"{arm}_{digest(key)}.json"

    def _trained(self) -> list[str]:
        arms = [arm for arm in ARMS if arm in self.run.stages()]
        if not arms:
            raise RunError(f"{self.run.path}: no generator is trained yet. Run: run.py train with this run's options.")
        return arms

    def _load(self, arm: str) -> MotionGenerator:
        return MotionGenerator.from_pretrained(self.run / arm, device=self.accelerator.device)

    def _sampler(self, arm: str) -> protocol.Generate:
        generator = self._load(arm)
        generator.sampling = self.config.sampling

        def generate(captions, lengths, seed):
            batches = -(-len(captions) // generator.sampling.batch)
            with tqdm(
                total=batches * generator.sampling.steps, desc=f"sampling {arm}", unit="step", leave=False
            ) as bar:
                return generator.generate_features(captions, lengths, seed=seed, on_step=bar.update)

        return generate

    def _log(self, name: str) -> Path:
        return self.run / "logs" / f"{name}.jsonl"

    def _say(self, message: str) -> None:
        self.console.print(f"[bold]·[/bold] {message}")


def _weights_digest(folder: Path) -> str:
    """A short hash of a model's weights, wherever its folder is."""
    hasher = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    return hasher.hexdigest()[:16]
