"""The stages of a run, in order: base, extractors, evaluator, baseline, AdaQF. `scoring` has what comes after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from adaclip import hub
from adaclip.adapter import SETTINGS
from adaclip.files import read_json
from adaclip.openai_bases import weights_of
from adaqf_train import seeding
from adaqf_train.config import POCKET_BASE, RunConfig, digest
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import check_split_lists
from adaqf_train.data.official import locate
from adaqf_train.data.prepare.procedural_sets import origin_of
from adaqf_train.encoders.moclip import align, save_aligned, schedule
from adaqf_train.encoders.pocket_clip import fit_pocket_clip
from adaqf_train.encoders.tuning import build_encoder, save_clip, save_text_model
from adaqf_train.errors import ConfigError, DataError
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.columns import NAMES
from adaqf_train.evaluation.manifest import hash_of_files, hash_of_weights
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.judges import store
from adaqf_train.judges.contrastive import fit_judge
from adaqf_train.judges.extractors import Extractors
from adaqf_train.judges.joints import JointMatcher
from adaqf_train.judges.matcher import Matcher
from adaqf_train.judges.official import OfficialJudge, find_checkpoint
from adaqf_train.runs.folder import RunFolder, copy_folder
from adaqf_train.runs.layout import ADAQF
from adaqf_train.runs.settings import without_incidental
from adaqf_train.runs.validator import validation_settings, validator
from adaqf_train.training.loop import Place
from adaqf_train.training.tracking import check_trackers


class Pipeline:
    """One run on one data set, in a folder that the caller has locked.

    Every stage is a method, does its work once, and runs the stages that it depends on first. base: folder of a CLIP
    text model to use as the base, whatever the recipe says. Progress is shown on `console`, by default on the main
    process.
    """

    def __init__(
        self, run: RunFolder, config: RunConfig, data: Path, *, base: Path | None = None, console: Console | None = None
    ) -> None:
        self.run, self.config, self.data, self.base_folder = run, config, locate(data), base
        self.accelerator: Accelerator = run.accelerator
        self.console = console or Console(quiet=not self.accelerator.is_main_process)
        if self.data == run.data:
            run.verified(run.data.name)
        self._datasets: dict[tuple[str, bool], MotionDataset] = {}
        check_split_lists(self.data)
        self.inputs = self._inputs(self.dataset("train"))

    def dataset(self, split: str, *, few: bool = False) -> MotionDataset:
        """A split of the data, read once. few: only the training clips that data.samples selects."""
        few = few and self.config.data.samples is not None
        if (split, few) not in self._datasets:
            config = self.config.data if few else replace(self.config.data, samples=None)
            dataset = self._datasets[split, few] = MotionDataset(self.data, split, config)
            out = f", {dataset.left_out} left out for their length" if dataset.left_out else ""
            chosen = f", the {config.samples} clips of data.samples" if few else ""
            self._say(f"{split}: {len(dataset)} captioned motions{chosen}{out}")
        return self._datasets[split, few]

    def check(self) -> None:
        """Find what would fail only after the training: splits that are too small, missing trackers and files."""
        protocol.check_samples(self.dataset(self.config.evaluation.split))
        if self.config.validation.every is not None or self.config.evaluation.chooses:
            protocol.check_samples(self.dataset("val"))
        if self.config.evaluation.procedural_test is not None:
            origin_of(self.data)
        check_trackers(self.config.training.trackers)
        feedback = self.config.feedback
        if feedback.active and feedback.judge == "official":
            find_checkpoint(Path(feedback.official))  # the file that users miss first
            OfficialJudge.load(Path(feedback.official), self.dataset("train"))
        few = {
            "extractors": not self.config.extractors.full_set,
            "evaluator": False,
            "joint_evaluator": False,
            "training": True,
        }
        few |= {"pocket_clip": False} if self.config.encoder.base == POCKET_BASE and self.base_folder is None else {}
        few |= {"alignment": True} if self.config.alignment.steps else {}
        for part, chosen in few.items():
            batch, train = getattr(self.config, part).batch, self.dataset("train", few=chosen)
            if batch % self.accelerator.num_processes:
                raise ConfigError(
                    f"{part}.batch={batch} cannot be divided over {self.accelerator.num_processes} processes."
                )
            if batch > len(train):
                raise DataError(
                    f"{train.folder}: the train split has {len(train)} items, fewer than {part}.batch ({batch}). "
                    f"Lower it: --set {part}.batch={len(train)}."
                )

    def base(self) -> tuple[str, str]:
        """Train the pocket CLIP if the recipe asks for one.

        Returns the text encoder to adapt, a folder or a Hub id, and what identifies it: a digest, or the id.
        """
        name = self.config.encoder.base
        if name != POCKET_BASE:
            name = str(self.base_folder or name)
            return name, identity_of(name)

        def fit(place: Place) -> Callable[[Path], None]:
            if self.base_folder:
                hub.load_base(str(self.base_folder), hub.LoadOptions(local_files_only=True))
                return lambda folder: copy_folder(self.base_folder, folder)
            data, config, trackers = self.dataset("train"), self.config.pocket_clip, self.config.training.trackers
            model, tokenizer = fit_pocket_clip(self.accelerator, data, config, Place(place.log), trackers)
            return lambda folder: save_clip(folder, model, tokenizer)

        message = "Base: copied" if self.base_folder else "Pocket CLIP: a text encoder trained against still poses"
        return str(self.run.pocket_clip), self._stage("pocket_clip", message, fit)

    def base_revision(self) -> str | None:
        """The commit of a base from the Hub, of which a stage may already hold a copy; None for other bases."""
        recorded = self.run.adaclip / SETTINGS
        if recorded.is_file() and (commit := read_json(recorded).get("base_revision")):
            return commit
        return hub.cached_commit(str(self.base_folder or self.config.encoder.base))

    def extractors(self) -> str:
        """Train the feedback's extractors; their digest."""

        def fit(place: Place) -> Callable[[Path], None]:
            model, tokenizer = hub.load_base(self.base()[0], hub.LoadOptions())
            data, config, trackers = self._extractors_data(), self.config.extractors, self.config.training.trackers
            words = model.get_input_embeddings().weight.detach()
            build = partial(Extractors.reading, words, data.features, config)
            fitted = fit_judge(self.accelerator, data, build, tokenizer, config, place, trackers)
            return lambda folder: store.save_extractors(folder, fitted, data.features, tokenizer)

        return self._stage("extractors", "Extractors: text and motion into one space (Eq. 2)", fit)

    def evaluator(self) -> str:
        """Train the independent evaluator; its digest."""

        def fit(place: Place) -> Callable[[Path], None]:
            _, tokenizer = hub.load_base(self.base()[0], hub.LoadOptions())
            data, config, trackers = self.dataset("train"), self.config.evaluator, self.config.training.trackers
            build = partial(Matcher, data.features, len(tokenizer), config)
            fitted = fit_judge(self.accelerator, data, build, tokenizer, config, place, trackers)
            return lambda folder: store.save_evaluator(folder, fitted, (data.mean, data.std), tokenizer)

        return self._stage("evaluator", "Evaluator: independent of the extractors", fit)

    def aligned(self) -> str:
        """Align the encoder by contrast, as a start of the co-optimisation; its digest."""
        config = self.config.alignment

        def fit(place: Place) -> Callable[[Path], None]:
            torch.manual_seed(seeding.mix(config.seed, self.config.training.seed))
            encoder = build_encoder(self.base()[0], replace(self.config.encoder, tuning="lora"), "both")
            encoder.to(self.accelerator.device)
            data, sizes = self.dataset("train", few=True), self.config.extractors
            tower = align(self.accelerator, data, encoder, sizes, config, place, self.config.training)
            return lambda folder: save_aligned(folder, encoder, tower)

        return self._stage("aligned", "Encoder: aligned with motions by contrast, before the co-optimisation", fit)

    def joint_evaluator(self) -> str:
        """Train the second independent evaluator, which reads decoded joints; its digest."""

        def fit(place: Place) -> Callable[[Path], None]:
            _, tokenizer = hub.load_base(self.base()[0], hub.LoadOptions())
            data, config, trackers = self.dataset("train"), self.config.joint_evaluator, self.config.training.trackers
            build = partial(JointMatcher, data.mean, data.std, len(tokenizer), config)
            fitted = fit_judge(self.accelerator, data, build, tokenizer, config, place, trackers)
            return lambda folder: store.save_evaluator(folder, fitted, (data.mean, data.std), tokenizer)

        return self._stage("joint_evaluator", "Second evaluator: reads decoded joints", fit)

    def train(self, arm: str) -> str:
        """Train the baseline or AdaQF; its digest.

        AdaQF's encoder is also written to adaclip/: an adapter, or a text model after full tuning.
        """
        config = self._arm_config(arm)

        def fit(place: Place) -> Callable[[Path], None]:
            data, base, feedback, judge = self.dataset("train", few=True), self.base()[0], config.feedback, None
            if feedback.active and feedback.judge == "official":
                judge = OfficialJudge.load(Path(feedback.official), self.dataset("train"))
            elif feedback.active:
                judge = store.load_extractors(self.run.extractors)[0]
            scored = config.validation.every is not None
            score = validator(self.run, self.config, self.dataset("val"), arm) if scored else None
            aligned = self.run.aligned if config.alignment.steps else None
            generator = fit_adaqf(self.accelerator, data, base, judge, config, place, score, aligned)

            def save(folder: Path) -> None:
                encoder, own = generator.encoder, self.run.adaclip
                if arm == ADAQF and self.config.encoder.tuning != "full":
                    encoder.save_pretrained(own)
                elif arm == ADAQF:
                    save_text_model(own, encoder)
                    self._say(f"{own}: a whole text model, not an adapter (encoder.tuning=full). Load it as a base:")
                    self._say(f'AdaCLIP.from_base("{own}"), or with transformers, {type(encoder.merged()).__name__}')
                generator.save_pretrained(folder)

            return save

        also = (self.run.adaclip.name,) if arm == ADAQF else ()
        return self._stage(arm, f"{NAMES[arm]}: training the generator", fit, also)

    def _stage(
        self, name: str, message: str, fit: Callable[[Place], Callable[[Path], None]], also: Sequence[str] = ()
    ) -> str:
        """Run a stage unless it is done. `fit` runs on every process, and what it returns saves on the main one."""
        settings = self._depends(name)

        def make() -> None:
            self._say(message)
            save = fit(self.place(name, settings))
            if self.accelerator.is_main_process:
                save(self.run / name)

        return self.run.stage(name, settings, make, also)

    def key(self, stage: str) -> str:
        """The digest of everything that the result of a stage depends on, whose earlier stages are run."""
        return digest(self._depends(stage))

    def place(self, name: str, settings: dict) -> Place:
        """Where a stage with these settings writes its log and its checkpoints."""
        return Place(self.run.log(name), self.run.checkpoints(name, settings))

    def _depends(self, stage: str) -> dict[str, object]:
        """Everything that the result of a stage depends on. The stages among it are run if they were not yet."""
        if stage == "pocket_clip":
            own = {"base": identity_of(str(self.base_folder))} if self.base_folder else asdict(self.config.pocket_clip)
            return own | self.inputs
        _, base_key = self.base()
        if stage == "extractors":
            settings = asdict(self.config.extractors) | self._inputs(self._extractors_data()) | {"base": base_key}
            del settings["full_set"]  # the inputs tell which clips it selects
            return settings
        if stage in ("evaluator", "joint_evaluator"):
            return asdict(getattr(self.config, stage)) | self.inputs | {"tokenizer": base_key}
        if stage == "aligned":
            encoder = {k: v for k, v in asdict(self.config.encoder).items() if k != "tuning"}
            own = {"alignment": asdict(self.config.alignment), "encoder": encoder, "seed": self.config.training.seed}
            own["schedule"] = schedule(self.config.alignment, self.config.training)
            for name in ("weight", "checkpoint_every"):
                del own["alignment"][name]
            sizes = asdict(self.config.extractors)
            return own | {"motion": sizes, **self._inputs(self.dataset("train", few=True)), "base": base_key}
        config = self._arm_config(stage)
        parts = ("encoder", "denoiser", "diffusion", "feedback", "physics", "training")
        settings = {part: without_incidental(getattr(config, part)) for part in parts}
        settings |= {**self._inputs(self.dataset("train", few=True)), "base": base_key}
        if config.alignment.steps:
            settings |= {"aligned": self.aligned(), "alignment": config.alignment.weight}
        official = settings["feedback"].pop("official")  # the files count, not where they lie
        if config.feedback.active and config.feedback.judge == "official":
            settings["judge"] = hash_of_files([find_checkpoint(Path(official))])
        elif config.feedback.active:
            settings["extractors"] = self.extractors()
        if config.validation.every is not None:
            settings |= validation_settings(config) | {"evaluator": self.evaluator()}
        return settings

    def _inputs(self, train: MotionDataset) -> dict[str, object]:
        """What a stage learns from. The fingerprint shows which clips data.samples selects."""
        data = asdict(self.config.data)
        return {"data": {k: v for k, v in data.items() if not k.startswith("samples")}, "train": train.fingerprint()}

    def _extractors_data(self) -> MotionDataset:
        return self.dataset("train", few=not self.config.extractors.full_set)

    def _arm_config(self, arm: str) -> RunConfig:
        return self.config if arm == ADAQF else self.config.baseline()

    def _say(self, message: str) -> None:
        self.console.print(f"[bold]·[/bold] {message}")


def identity_of(base: str) -> str:
    """What identifies a text encoder: a hash of its weights, or its name on the Hub.

    ConfigError for a folder without weights.
    """
    weights, folder = weights_of(base), Path(base)
    if weights is not None:
        return hash_of_files([weights])
    if not folder.is_dir():
        return base
    if not any(folder.rglob("*.safetensors")):
        raise ConfigError(f"{base}: holds no *.safetensors. Give the folder of a text encoder, or a Hub id.")
    return hash_of_weights(folder)
