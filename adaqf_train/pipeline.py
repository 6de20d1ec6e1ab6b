"""The stages of a run, in order: base, extractors, evaluator, baseline, AdaQF, evaluation, page."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from rich.console import Console
from tqdm import tqdm

from adaclip import AdaCLIP, hub
from adaclip.files import atomic_folder
from adaqf_train.config import POCKET_BASE, RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import DataError, check_split_lists
from adaqf_train.data.official import locate
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.evaluators import Evaluator
from adaqf_train.evaluation.motions import read_motions
from adaqf_train.evaluation.official_judge import OfficialJudge
from adaqf_train.evaluation.report import Report
from adaqf_train.evaluation.t2m import find_checkpoint, load_official
from adaqf_train.models import store
from adaqf_train.models.extractors import Extractors
from adaqf_train.models.generator import MotionGenerator
from adaqf_train.motion.features import decode
from adaqf_train.run_folder import RunError, RunFolder
from adaqf_train.training import fit_adaqf, fit_contrastive
from adaqf_train.training.tracking import check_trackers
from adaqf_train.viewing.page import Scene, Take, write_page

ARMS = ("baseline", "adaqf")
# Fields of TrainingConfig that the weights do not depend on: to change them is no reason to train again.
INCIDENTAL = ("workers", "checkpoint_every", "keep", "log_every", "trackers", "max_loss")
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
        self._datasets: dict[tuple[str, bool], MotionDataset] = {}
        check_split_lists(self.data)
        self.inputs = self._inputs(self.dataset("train"))

    def dataset(self, split: str, *, few: bool = False) -> MotionDataset:
        """A split of the data, read once. few: of the training split only what data.samples leaves of it."""
        few = few and self.config.data.samples is not None
        if (split, few) not in self._datasets:
            config = self.config.data if few else replace(self.config.data, samples=None)
            dataset = self._datasets[split, few] = MotionDataset(self.data, split, config)
            out = f", {dataset.left_out} left out for their length" if dataset.left_out else ""
            chosen = f", the {config.samples} clips of data.samples" if few else ""
            self._say(f"{split}: {len(dataset)} captioned motions{chosen}{out}")
        return self._datasets[split, few]

    def check(self) -> None:
        """Finds what would fail after all the training: splits that are scored, trackers, and batches larger than the
        data.
        """
        protocol.check_samples(self.dataset(self.config.evaluation.split))
        if self.config.validation.every is not None:
            protocol.check_samples(self.dataset("val"))
        check_trackers(self.config.training.trackers)
        few = {"extractors": not self.config.extractors.full_set, "evaluator": False, "training": True}
        few |= {"pocket_clip": False} if self.config.encoder.base == POCKET_BASE and self.base_folder is None else {}
        for part, chosen in few.items():
            batch, train = getattr(self.config, part).batch, self.dataset("train", few=chosen)
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
                self.accelerator,
                self.dataset("train"),
                self.config.pocket_clip,
                self._log("pocket_clip"),
                trackers=self.config.training.trackers,
            )
            if self.accelerator.is_main_process:
                store.save_clip(folder, model, tokenizer)

        return str(folder), self.run.stage("pocket_clip", settings | self.inputs, make)

    def extractors(self) -> str:
        """Trains the feedback's extractors; returns their digest."""
        base, base_key = self.base()
        train = self.dataset("train", few=not self.config.extractors.full_set)
        # full_set says no more than which clips there were, which the inputs tell.
        settings = asdict(self.config.extractors) | self._inputs(train) | {"base": base_key}
        del settings["full_set"]

        def make() -> None:
            self._say("Extractors: text and motion into one space (Eq. 2)")
            model, tokenizer = hub.load_base(base, hub.LoadOptions())
            words = model.get_input_embeddings().weight.detach()
            extractors = fit_contrastive.fit_extractors(
                self.accelerator,
                train,
                tokenizer,
                words,
                self.config.extractors,
                self._log("extractors"),
                checkpoints=self._checkpoints("extractors", settings),
                trackers=self.config.training.trackers,
            )
            if self.accelerator.is_main_process:
                folder = self.run / "extractors"
                store.save_extractors(folder, extractors, train.features, self.config.extractors, tokenizer)

        return self.run.stage("extractors", settings, make)

    def evaluator(self) -> str:
        """Trains the independent evaluator; returns its digest."""
        base, base_key = self.base()
        settings = asdict(self.config.evaluator) | self.inputs | {"tokenizer": base_key}

        def make() -> None:
            self._say("Evaluator: independent of the extractors")
            _, tokenizer = hub.load_base(base, hub.LoadOptions())
            train = self.dataset("train")
            matcher = fit_contrastive.fit_evaluator(
                self.accelerator,
                train,
                tokenizer,
                self.config.evaluator,
                self._log("evaluator"),
                checkpoints=self._checkpoints("evaluator", settings),
                trackers=self.config.training.trackers,
            )
            if self.accelerator.is_main_process:
                store.save_evaluator(self.run / "evaluator", matcher, train.features, self.config.evaluator, tokenizer)

        return self.run.stage("evaluator", settings, make)

    def train(self, arm: str) -> str:
        """Trains the baseline or AdaQF; returns its digest.

        AdaQF's adapter is also written to adaclip/, or, of an encoder tuned as a whole, the text model.
        """
        config = self.config if arm == "adaqf" else self.config.baseline()
        base, base_key = self.base()
        train = self.dataset("train", few=True)
        parts = ("encoder", "denoiser", "diffusion", "feedback", "training")
        settings = {part: asdict(getattr(config, part)) for part in parts} | self._inputs(train) | {"base": base_key}
        for name in INCIDENTAL:
            del settings["training"][name]
        judge = self._feedback_judge(config, settings)
        if config.validation.every is not None:
            settings |= {"validation": asdict(config.validation), "evaluator": self.evaluator()}
            settings["validation"].pop("strips")

        def make() -> None:
            self._say(f"{LABELS[arm]}: training the generator")
            generator = fit_adaqf.fit(
                self.accelerator,
                train,
                base,
                judge,
                config,
                name=arm,
                checkpoints=self._checkpoints(arm, settings),
                log=self._log(arm),
                on_validation=self._validator(arm) if config.validation.every is not None else None,
            )
            if self.accelerator.is_main_process:
                if arm == "adaqf":
                    self._save_encoder(generator.encoder)
                generator.save_pretrained(self.run / arm)

        return self.run.stage(arm, settings, make)

    def _feedback_judge(self, config: RunConfig, settings: dict) -> Extractors | OfficialJudge | None:
        """Who gives feedback, if anybody does; what it is goes into the settings."""
        official = settings["feedback"].pop("official")  # where the files are does not matter, what they are does
        if not config.feedback.active:
            return None
        if config.feedback.judge == "official":
            settings["judge"] = _file_digest(find_checkpoint(Path(official)))
            return OfficialJudge.load(Path(official), self.dataset("train"))
        settings["extractors"] = self.extractors()
        return store.load_extractors(self.run / "extractors")[0]

    def _save_encoder(self, encoder: AdaCLIP) -> None:
        folder = self.run / "adaclip"
        if self.config.encoder.tuning != "full":
            encoder.save_pretrained(folder)
            return
        store.save_clip(folder, encoder.merged(), encoder.tokenizer)
        self._say(f"{folder}: a whole text model, not an adapter (encoder.tuning=full). Load it as a base:")
        self._say(f'AdaCLIP.from_base("{folder}"), or with transformers, CLIPTextModelWithProjection')

    def _validator(self, arm: str) -> fit_adaqf.OnValidation:
        """Scores a generator on val with the independent evaluator, and leaves a page of a few of its motions."""
        validation, dataset = self.config.validation, self.dataset("val")
        protocol_of_one = replace(
            self.config.evaluation,
            split="val",
            replications=1,
            max_samples=validation.samples,
            seed=validation.seed,
        )
        towers, tokenizer = store.load_evaluator(self.run / "evaluator")
        evaluator = Evaluator(towers.to(self.accelerator.device), tokenizer, dataset.mean, dataset.std)
        drawn, few = protocol.draw(dataset, protocol_of_one, 0), slice(validation.strips)
        captions, motions, lengths = drawn.captions[few], drawn.motions[few], drawn.lengths[few]

        def score(generator: MotionGenerator, step: int) -> dict[str, float]:
            def sample(captions: Sequence[str], lengths: Sequence[int], seed: tuple[int, ...]) -> list[np.ndarray]:
                return generator.generate_features(captions, lengths, seed=seed)

            if validation.strips:
                made = sample(captions, lengths, (validation.seed,))
                unit = dataset.skeleton.units_per_metre
                scenes = [
                    Scene(caption, (Take(LABELS["gt"], decode(real) / unit), Take(LABELS[arm], decode(ours) / unit)))
                    for caption, real, ours in zip(captions, motions, made, strict=True)
                ]
                page = self.run / "validation" / f"{arm}_{step:08d}.html"
                write_page(page, scenes, title=f"{LABELS[arm]} after {step} steps", fps=dataset.fps)
            row = protocol.evaluate(sample, dataset, evaluator, protocol_of_one)
            return {name: value["mean"] for name, value in row.items()}

        return score

    def _inputs(self, train: MotionDataset) -> dict[str, object]:
        """What a stage learns from. Which clips data.samples leaves shows in the fingerprint."""
        data = asdict(self.config.data)
        return {"data": {k: v for k, v in data.items() if not k.startswith("samples")}, "train": train.fingerprint()}

    def _checkpoints(self, name: str, settings: dict) -> Path:
        """Where a stage's are: what was trained with other settings is never gone on with."""
        return self.run / "checkpoints" / name / digest(settings)

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


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _weights_digest(folder: Path) -> str:
    """A short hash of a model's weights, wherever its folder is."""
    hasher = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    return hasher.hexdigest()[:16]
