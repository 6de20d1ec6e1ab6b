"""The stages of a run, in order: base, extractors, evaluator, baseline, AdaQF. `scoring` has what comes after."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from adaclip import AdaCLIP, hub
from adaclip.files import atomic_folder
from adaqf_train.config import POCKET_BASE, RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import check_split_lists
from adaqf_train.data.official import locate
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.columns import NAMES
from adaqf_train.evaluation.manifest import hash_of_files, hash_of_weights
from adaqf_train.judges.official_feedback import OfficialJudge
from adaqf_train.judges.official import find_checkpoint
from adaqf_train.judges import store
from adaqf_train.judges.base import Judge
from adaqf_train.runs.folder import RunFolder
from adaqf_train.encoders.pocket_clip import fit_pocket_clip
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.judges import contrastive
from adaqf_train.training.loop import Place
from adaqf_train.training.tracking import check_trackers
from adaqf_train.runs.validator import ScoreGenerator, validator
from adaqf_train.errors import DataError

ARMS = ("baseline", "adaqf")
# Fields of TrainingConfig that the weights do not depend on: to change them is no reason to train again.
INCIDENTAL = ("workers", "checkpoint_every", "keep", "log_every", "trackers", "max_loss")


def without_incidental(config: object) -> dict:
    """A configuration as nested dictionaries, without the training settings that weights do not depend on."""

    def kept(content: dict) -> dict:
        training = "learning_rate" in content and "workers" in content
        return {
            name: kept(value) if isinstance(value, dict) else value
            for name, value in content.items()
            if not (training and name in INCIDENTAL)
        }

    return kept(config if isinstance(config, dict) else asdict(config))


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
        feedback = self.config.feedback
        if feedback.active and feedback.judge == "official":
            find_checkpoint(Path(feedback.official))  # the first that people look for
            OfficialJudge.load(Path(feedback.official), self.dataset("train"))
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
            model, tokenizer = fit_pocket_clip(
                self.accelerator,
                self.dataset("train"),
                self.config.pocket_clip,
                Place(self._log("pocket_clip")),
                self.config.training.trackers,
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
            extractors = contrastive.fit_extractors(
                self.accelerator,
                train,
                tokenizer,
                words,
                self.config.extractors,
                self.place("extractors", settings),
                self.config.training.trackers,
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
            matcher = contrastive.fit_evaluator(
                self.accelerator,
                train,
                tokenizer,
                self.config.evaluator,
                self.place("evaluator", settings),
                self.config.training.trackers,
            )
            if self.accelerator.is_main_process:
                statistics = train.mean, train.std
                store.save_evaluator(self.run / "evaluator", matcher, statistics, self.config.evaluator, tokenizer)

        return self.run.stage("evaluator", settings, make)

    def train(self, arm: str) -> str:
        """Trains the baseline or AdaQF; returns its digest.

        AdaQF's adapter is also written to adaclip/, or, of an encoder tuned as a whole, the text model.
        """
        config = self.config if arm == "adaqf" else self.config.baseline()
        base, base_key = self.base()
        train = self.dataset("train", few=True)
        parts = ("encoder", "denoiser", "diffusion", "feedback", "training")
        settings = {part: without_incidental(getattr(config, part)) for part in parts}
        settings |= {**self._inputs(train), "base": base_key}
        judge = self._feedback_judge(config, settings)
        if config.validation.every is not None:
            settings |= {"validation": asdict(config.validation), "evaluator": self.evaluator()}
            settings["validation"].pop("strips")

        def make() -> None:
            self._say(f"{NAMES[arm]}: training the generator")
            score = self._validator(arm) if config.validation.every is not None else None
            generator = fit_adaqf(self.accelerator, train, base, judge, config, self.place(arm, settings), score)
            if self.accelerator.is_main_process:
                if arm == "adaqf":
                    self._save_encoder(generator.encoder)
                generator.save_pretrained(self.run / arm)

        return self.run.stage(arm, settings, make, also=("adaclip",) if arm == "adaqf" else ())

    def _feedback_judge(self, config: RunConfig, settings: dict) -> Judge | None:
        """Who gives feedback, if anybody does; what it is goes into the settings."""
        official = settings["feedback"].pop("official")  # where the files are does not matter, what they are does
        if not config.feedback.active:
            return None
        if config.feedback.judge == "official":
            settings["judge"] = hash_of_files([find_checkpoint(Path(official))])
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

    def _validator(self, arm: str) -> ScoreGenerator:
        return validator(
            self.dataset("val"),
            self.config,
            self.run / "evaluator",
            self.run / "extractors" if "extractors" in self.run.stages() else None,
            pictures=self.run / "validation" / arm,
            device=self.accelerator.device,
        )

    def _inputs(self, train: MotionDataset) -> dict[str, object]:
        """What a stage learns from. Which clips data.samples leaves shows in the fingerprint."""
        data = asdict(self.config.data)
        return {"data": {k: v for k, v in data.items() if not k.startswith("samples")}, "train": train.fingerprint()}

    def place(self, name: str, settings: dict) -> Place:
        """Where a stage with these settings writes its log and its checkpoints."""
        return Place(self._log(name), self._checkpoints(name, settings))

    def _checkpoints(self, name: str, settings: dict) -> Path:
        """Where a stage's are: what was trained with other settings is never gone on with."""
        return self.run / "checkpoints" / name / digest(settings)

    def _log(self, name: str) -> Path:
        return self.run / "logs" / f"{name}.jsonl"

    def _say(self, message: str) -> None:
        self.console.print(f"[bold]·[/bold] {message}")
