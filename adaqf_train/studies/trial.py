"""Runs single trials: what a study's arm says, on a data set, with a training seed."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from adaclip import AdaCLIP
from adaqf_train.config import POCKET_BASE, RunConfig, digest, override, to_dict
from adaqf_train.config.families import Families
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.official import locate
from adaqf_train.encoders.moclip import fit_moclip, save_moclip
from adaqf_train.encoders.pocket_clip import fit_pose_probe
from adaqf_train.errors import ConfigError, RunError, RunLocked
from adaqf_train.evaluation.extractors_report import retrieve_real
from adaqf_train.evaluation.forgetting import kept_structure, still_pose_retrieval
from adaqf_train.evaluation.general_prompts import PROMPTS
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.evaluation.protocol import Row
from adaqf_train.evaluation.report import Report
from adaqf_train.generators.masked.generator import MaskedGenerator
from adaqf_train.generators.mdm.generator import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.judges.evaluators import Evaluator
from adaqf_train.runs.folder import RunFolder, as_stored, differences, read_config
from adaqf_train.runs.scoring import Scoring
from adaqf_train.runs.stages import Pipeline, without_incidental
from adaqf_train.studies.definitions import Arm, Source
from adaqf_train.studies.results import Figures, Result, Trial
from adaqf_train.studies.transfer import CODECS, GENERATOR, Transfer, curve_of, read_curve
from adaqf_train.training.loop import Place

PATIENCE = 5.0  # seconds
ADAQF = "adaqf"  # the stage that holds a generator of MDM's family, whatever its settings make of it
Decision = TypeVar("Decision")


@dataclass(frozen=True)
class TrialRunner:
    """Trials on some data sets, by one recipe.

    They share base, extractors, evaluator and codecs, differ in their arm's settings and the training seed, and are
    known by all that they depend on.
    """

    accelerator: Accelerator
    recipe: str
    config: RunConfig  # of the recipe, with the settings that hold for every arm
    families: Families  # the same
    settings: tuple[str, ...]  # those settings, as `--set` takes them
    data: Mapping[str, Path]  # label -> folder
    runs: Path  # run folders go here: networks, logs
    base: Path | None = None  # a CLIP text model in the place of the recipe's
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def trial(self, label: str, arm: Arm, seed: int) -> Trial:
        """What an arm on a data set is with that training seed."""
        base = (f"base={_hash_of_base(self.base)[:16]}",) if self.base else ()
        settings = (*base, *self.settings, *arm.settings)
        encoder = self._source_key(label, arm.encoder) if arm.encoder else None
        return Trial(label, self.recipe, settings, seed, arm.kind, encoder)

    def run(self, label: str, arm: Arm, seed: int) -> Result:
        """Trains and scores a trial; RunLocked when another process is at it.

        Of several processes of one launch all train, and the main one scores: only its result has figures.
        """
        trial = self.trial(label, arm, seed)
        source = self._adapted(label, arm.encoder, seed) if arm.encoder else None
        run = RunFolder(self.runs / trial.name, self.accelerator)
        with self._claimed(run):
            pipeline, started = self._pipeline(run, label, arm, seed), time.monotonic()
            if arm.kind == "extractors":
                test, truth = self._retrieve(pipeline), {}
            elif arm.kind == "encoder":
                test, truth = self._remember(pipeline, self._encoder(pipeline, source)), {}
            else:
                test, truth = self._generate(pipeline, label, arm, source)
            curve = read_curve(curve_of(run.path, ADAQF if arm.encoder is None else GENERATOR))
            stages = {name: entry["seconds"] for name, entry in run.stages().items()}
            scored = max(0.0, time.monotonic() - started - sum(stages.values()))
            manifest = {
                "seconds": stages | {"scoring": round(scored, 1)},
                "machine": _machine(self.accelerator),
                "data": pipeline.dataset(pipeline.config.evaluation.split).fingerprint(),
                "train": pipeline.inputs["train"],
                "evaluator": store.fingerprint_of(run / "evaluator") if "evaluator" in run.stages() else None,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "config": to_dict(pipeline.config),
                "families": to_dict(self.families),
            }
            return Result(trial, test, truth, curve, manifest)

    def changes(self, label: str, arm: Arm, seed: int, manifest: Mapping[str, object]) -> str:
        """In what a result's settings differ from what its arm would be given now, "" where in nothing that counts."""
        now = {"config": self._config(arm, seed)}
        if arm.encoder is not None and arm.kind != "encoder":
            now["families"] = self.families
        now = {part: as_stored(without_incidental(config)) for part, config in now.items()}
        kept = {part: without_incidental(manifest[part]) for part in now if part in manifest}
        return differences(kept, {part: now[part] for part in kept})

    def _config(self, arm: Arm, seed: int) -> RunConfig:
        config = override(self.config, [*arm.settings, f"training.seed={seed}"])
        if arm.kind == "extractors" and seed:
            config = replace(config, extractors=replace(config.extractors, seed=config.extractors.seed + 100 * seed))
        return config

    @contextmanager
    def _claimed(self, run: RunFolder) -> Iterator[None]:
        """The folder's lock; RunLocked on every process of this launch when another launch has it."""
        with ExitStack() as stack:
            refused = None
            try:
                stack.enter_context(run.locked())
            except RunLocked as error:
                refused = str(error)
            if (refused := agreed(refused)) is not None:
                raise RunLocked(refused)
            yield

    def _pipeline(self, run: RunFolder, label: str, arm: Arm, seed: int) -> Pipeline:
        """The run of a trial, with the stages that trials have in common."""
        run.borrow_from(self._shared(label, arm))
        config = self._config(arm, seed)
        pipeline = Pipeline(run, config, self.data[label], base=self.base)
        pipeline.check()
        run.write_config(config, pipeline.data)
        self._common(pipeline, arm)
        return pipeline

    def _common(self, pipeline: Pipeline, arm: Arm) -> None:
        """Trains, or borrows, what trials of that kind have in common."""
        pipeline.extractors()
        if arm.kind != "extractors":
            pipeline.evaluator()
        if arm.kind in CODECS:
            Transfer(pipeline, self.families).codec(arm.kind)

    def _generate(self, pipeline: Pipeline, label: str, arm: Arm, source: Path | None) -> tuple[Figures, Figures]:
        """Test figures of a generator, and of the real motions."""
        run = pipeline.run
        if arm.encoder is None:
            pipeline.train(ADAQF)
            generator = MotionGenerator.from_pretrained(run / ADAQF, device=self.accelerator.device)
            weights = hash_of_weights(run / ADAQF)
        else:
            encoder = self._encoder(pipeline, source)
            generator = Transfer(pipeline, self.families).train(arm.kind, encoder)
            weights = hash_of_weights(run / GENERATOR)
        if not self.accelerator.is_main_process:
            return {}, {}
        scoring = Scoring(pipeline)
        # A report voids minimal pairs where the real motions' own say that they mean nothing.
        rows = Report.of({"gt": scoring.row("gt"), GENERATOR: scoring.score(GENERATOR, generator, weights)}, {}).rows
        test = _means(rows[GENERATOR])
        if isinstance(generator, MaskedGenerator):
            test |= _by_level(scoring, generator, weights, test)
        return test, _means(rows["gt"])

    def _retrieve(self, pipeline: Pipeline) -> Figures:
        """How the feedback's extractors find real motions."""
        if not self.accelerator.is_main_process:
            return {}
        towers, tokenizer = store.load_extractors(pipeline.run / "extractors")
        dataset = pipeline.dataset(pipeline.config.evaluation.split)
        judge = Evaluator(towers.to(self.accelerator.device), tokenizer, dataset.mean, dataset.std)
        sets = retrieve_real(dataset, {"extractors": judge}, pipeline.config.evaluation)["extractors"]
        return {f"{which}_{name}": figure["mean"] for which, row in sets.items() for name, figure in row.items()}

    def _remember(self, pipeline: Pipeline, adapted: Path) -> Figures:
        """What an adapted encoder keeps of its base."""
        encoders = {name: AdaCLIP.from_base(str(at)) for name, at in (("base", pipeline.base()[0]), ("own", adapted))}
        before, after = (encoder.encode(list(PROMPTS)).numpy() for encoder in encoders.values())
        figures = {f"kept_{name}": value for name, value in kept_structure(before, after).items()}
        test = pipeline.dataset(pipeline.config.evaluation.split)
        for name, encoder in encoders.items():
            towers = fit_pose_probe(
                self.accelerator,
                pipeline.dataset("train"),
                encoder.merged(),
                encoder.tokenizer,
                pipeline.config.pocket_clip,
                Place(pipeline.run / "logs" / f"probe_{name}.jsonl"),
            )
            found = still_pose_retrieval(lambda prompts: encoders["own"].encode(prompts).numpy(), towers, test)
            figures["still_r3" if name == "base" else "still_r3_own"] = found["text_to_motion"]["r3"]
        return figures

    def _encoder(self, pipeline: Pipeline, source: Path | None) -> Path:
        """An encoder as a CLIP text model that brings its adapter along in its weights. source: None is the base."""
        base, key = pipeline.base()
        run = pipeline.run
        if source is None and Path(base).is_dir():
            return Path(base)
        if source is not None and not (source / "adapter_config.json").is_file():
            return source

        def make() -> None:
            if self.accelerator.is_main_process:
                encoder = AdaCLIP.from_base(base) if source is None else AdaCLIP.from_pretrained(source)
                store.save_clip(run / "encoder", encoder.merged(), encoder.tokenizer)

        run.stage("encoder", {"source": key if source is None else hash_of_weights(source)}, make)
        return run / "encoder"

    def _adapted(self, label: str, source: Source, seed: int) -> Path | None:
        """The folder of an encoder, trained now unless it was before; None for the base, which nobody adapts."""
        if source.kind == "base":
            return None
        where = self._other(label) if source.other_data else label
        arm = Arm("", source.settings)
        if source.kind == "adaclip":
            run, name = RunFolder(self.runs / self.trial(where, arm, seed).name, self.accelerator), "adaclip"
            train = self._train_adaclip
        else:
            name = "moclip"
            run = RunFolder(self.runs / f"{self._source_key(label, source)}-seed{seed}", self.accelerator)
            train = self._train_moclip
        while not agreed((run / name).is_dir()):
            try:
                with self._claimed(run):
                    train(self._pipeline(run, where, arm, seed))
            except RunLocked:
                time.sleep(PATIENCE)
        stages = run.stages()
        config, families = self._config(arm, seed), self.families
        kept = {"config": to_dict(read_config(run.path)[0])}
        now = {"config": to_dict(config)}
        if source.kind == "moclip":
            kept["moclip"] = stages["moclip"]["settings"]["config"] | {"seed": families.moclip.seed}
            now["moclip"] = as_stored(to_dict(families.moclip))
        if changed := differences(*(as_stored(without_incidental(part)) for part in (kept, now))):
            raise RunError(f"{run.path}: made with other settings ({changed}). Give another --out, or delete this run.")
        return run / name

    def _train_adaclip(self, pipeline: Pipeline) -> None:
        pipeline.train(ADAQF)

    def _train_moclip(self, pipeline: Pipeline) -> None:
        run = pipeline.run
        seed = self.families.moclip.seed + 100 * pipeline.config.training.seed
        config = replace(self.families.moclip, seed=seed)
        settings = {"config": to_dict(config), "base": pipeline.base()[1], **pipeline.inputs}

        def make() -> None:
            encoder = fit_moclip(
                self.accelerator,
                pipeline.dataset("train", few=True),
                pipeline.base()[0],
                pipeline.config.extractors,
                config,
                pipeline.place("moclip", settings),
                pipeline.config.training.trackers,
            )
            if self.accelerator.is_main_process:
                save_moclip(run / "moclip", encoder, config)

        run.stage("moclip", settings, make)

    def _source_key(self, label: str, source: Source) -> str:
        if source.kind == "base":
            return "base"
        where = self._other(label) if source.other_data else label
        key = self.trial(where, Arm("", source.settings), 0).key
        return key if source.kind == "adaclip" else f"moclip-{key}"

    def _other(self, label: str) -> str:
        if self.base is None and self.config.encoder.base == POCKET_BASE:
            raise ConfigError(
                "An encoder of another data set needs a base that both share, and a pocket recipe trains one for each. "
                "Give --base (adaqf prepare merged and adaqf base make one)."
            )
        others = [name for name in self.data if name != label]
        if len(others) != 1:
            raise ConfigError(
                f"An encoder of another data set needs two data sets, got {', '.join(self.data)}. Give --data twice."
            )
        return others[0]

    def _shared(self, label: str, arm: Arm) -> Path:
        """A run with the stages that the trials on a data set have in common."""
        parts = to_dict(self.config)
        common = {name: parts[name] for name in ("data", "pocket_clip", "extractors", "evaluator")}
        train = MotionDataset(locate(self.data[label]), "train", self.config.data).fingerprint()
        base = _hash_of_base(self.base) if self.base else self.config.encoder.base
        key = digest(common | {"base": base, "train": train})
        run = RunFolder(self.runs / f"{label}-shared-{key[:8]}", self.accelerator)
        wanted = {"extractors"} if arm.kind == "extractors" else {"extractors", "evaluator"}
        wanted |= {CODECS[arm.kind]} if arm.kind in CODECS else set()
        while not agreed(wanted <= run.stages().keys()):
            try:
                with self._claimed(run):
                    pipeline = Pipeline(run, self.config, self.data[label], base=self.base)
                    pipeline.check()
                    run.write_config(self.config, pipeline.data)
                    self._common(pipeline, arm)
            except RunLocked:
                time.sleep(PATIENCE)  # another process of the study is at it
        return run.path


def agreed(decision: Decision) -> Decision:
    """What the main process found, on every process of the launch: the others may see a disk that changes."""
    (decision,) = broadcast_object_list([decision])
    return decision


@cache
def _hash_of_base(folder: Path) -> str:
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"--base {folder}: has no *.safetensors. Give the folder of a CLIP text model.")
    return hash_of_weights(folder)


def _machine(accelerator: Accelerator) -> str:
    """What it ran on, in a few words."""
    if accelerator.device.type == "cuda":
        return f"{accelerator.num_processes} x {torch.cuda.get_device_name(accelerator.device)}"
    return f"{platform.machine()} with {os.cpu_count()} cores"


def _by_level(scoring: Scoring, generator: MaskedGenerator, weights: str, whole: Figures) -> Figures:
    """FID and R@3 with fewer residual levels: R0 is the base level alone. whole: the figures with all of them."""
    most = generator.levels
    found = {most - 1: whole}
    for level in range(1, most):
        generator.levels = level
        found[level - 1] = _means(scoring.score(f"{GENERATOR}_R{level - 1}", generator, weights))
    generator.levels = most
    return {f"{name}_R{level}": found[level][name] for level in sorted(found) for name in ("fid", "r_precision_3")}


def _means(row: Row) -> Figures:
    return {name: figure["mean"] for name, figure in row.items() if figure["mean"] is not None}
