"""The stages of a run, in order: base, extractors, evaluator, baseline, AdaQF. `scoring` has what comes after."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from adaclip import hub
from adaclip.files import atomic_folder
from adaqf_train.config import POCKET_BASE, RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import DataError, check_split_lists
from adaqf_train.data.official import locate
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.columns import NAMES
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.models import store
from adaqf_train.run_folder import RunFolder
from adaqf_train.training import fit_adaqf, fit_contrastive

ARMS = ("baseline", "adaqf")


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
            return name, hash_of_weights(Path(name)) if Path(name).is_dir() else name
        folder = self.run / "pocket_clip"
        settings = {"base": hash_of_weights(self.base_folder)} if self.base_folder else asdict(self.config.pocket_clip)

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
                statistics = train.mean, train.std
                store.save_evaluator(self.run / "evaluator", matcher, statistics, self.config.evaluator, tokenizer)

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
            self._say(f"{NAMES[arm]}: training the generator")
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

    def _log(self, name: str) -> Path:
        return self.run / "logs" / f"{name}.jsonl"

    def _say(self, message: str) -> None:
        self.console.print(f"[bold]·[/bold] {message}")
