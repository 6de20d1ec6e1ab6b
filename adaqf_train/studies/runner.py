"""Train and score single trials, and the text encoders that their generators are trained under."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from adaclip import AdaCLIP
from adaclip.integrity import read_sealed
from adaqf_train.encoders.moclip import MoClipConfig, fit_moclip, schedule
from adaqf_train.encoders.pocket_clip import fit_pose_probe
from adaqf_train.encoders.tuning import save_text_model, save_tuned
from adaqf_train.errors import RunError
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.forgetting import GENERAL_PROMPTS, kept_structure, still_pose_retrieval
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.evaluation.protocol import Row
from adaqf_train.evaluation.report import Report
from adaqf_train.evaluation.retrieval import retrieve_real
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from adaqf_train.runs.layout import ADAQF
from adaqf_train.runs.scoring import Scoring
from adaqf_train.runs.settings import changes
from adaqf_train.runs.stages import Pipeline
from adaqf_train.runs.validator import load_extractors, validation_protocol
from adaqf_train.studies.results import Figures, Result
from adaqf_train.studies.schema import Arm, Source
from adaqf_train.studies.transfer import Transfer
from adaqf_train.studies.workspace import Workspace
from adaqf_train.training.loop import Place


@dataclass(frozen=True)
class TrialRunner:
    """Runs trials. They share base, extractors, evaluator and codecs, and differ in their arm and training seed."""

    workspace: Workspace

    def run(self, label: str, arm: Arm, seed: int) -> Result:
        """Train and score a trial; RunLocked if another process is running it.

        All processes of a launch train, and the main one scores: only its result has figures.
        """
        workspace = self.workspace
        trial = workspace.setup.trial(label, arm, seed)
        adapted = self._adapted(label, arm.encoder, seed) if arm.encoder else None
        run = workspace.run(trial.name)
        with workspace.claimed(run):
            pipeline, started = workspace.pipeline(run, label, arm, seed), time.monotonic()
            encoder = _text_model(pipeline, adapted) if arm.encoder else None
            truth, more = {}, {}
            if arm.kind == "extractors":
                test = _retrieval(pipeline)
            elif arm.kind == "encoder":
                test = _forgetting(pipeline, encoder)
            else:
                test, truth, more = self._generation(pipeline, arm, encoder)
            points = run.curve(ADAQF if arm.encoder is None else run.generator.name)
            curve = [json.loads(line) for line in points.read_text().splitlines()] if points.is_file() else []
            return Result(trial, test, truth, curve, self._manifest(pipeline, started), **more)

    def _adapted(self, label: str, source: Source, seed: int) -> Path | None:
        """The folder of an encoder, trained unless it exists; None for the base, which is not trained."""
        if source.kind == "base":
            return None
        setup, workspace, arm = self.workspace.setup, self.workspace, Arm("", source.settings)
        where = setup.source_data(label, source)
        run = workspace.run(f"{setup.source_key(label, source)}-seed{seed}")
        if source.kind == "adaclip":
            folder, stage = run.adaclip, ADAQF
        else:
            folder, stage = run.moclip, run.moclip.name

        def train() -> None:
            pipeline = workspace.pipeline(run, where, arm, seed)
            if source.kind == "adaclip":
                pipeline.train(ADAQF)
            else:
                _train_moclip(pipeline, setup.families.moclip)

        workspace.once(run, lambda: stage in run.stages(), train)
        config = setup.at(where).arm_config(arm, seed)
        found = [changes(read_sealed(run.config, "Delete the run.")["config"], config, "config.")]
        if source.kind == "moclip":
            moclip = setup.families.moclip
            found.append(
                changes(run.stages()[run.moclip.name]["settings"]["config"] | {"seed": moclip.seed}, moclip, "moclip.")
            )
        if changed := ", ".join(filter(None, found)):
            raise RunError(f"{run.path}: made with other settings ({changed}). Give another --out, or delete this run.")
        return folder

    def _manifest(self, pipeline: Pipeline, started: float) -> dict[str, object]:
        """What a result was made with and from, and how long it took."""
        run = pipeline.run
        stages = {name: entry["seconds"] for name, entry in run.stages().items()}
        scored = max(0.0, time.monotonic() - started - sum(stages.values()))
        return {
            "seconds": stages | {"scoring": round(scored, 1)},
            "machine": _machine(pipeline.accelerator),
            "data": pipeline.dataset(pipeline.config.evaluation.split).fingerprint(),
            "train": pipeline.inputs["train"],
            "evaluator": store.fingerprint_of(run.evaluator) if run.evaluator.name in run.stages() else None,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "config": asdict(pipeline.config),
            "families": asdict(self.workspace.setup.families),
        }

    def _generation(
        self, pipeline: Pipeline, arm: Arm, encoder: Path | None
    ) -> tuple[Figures, Figures, dict[str, Mapping]]:
        """Train a generator; return test figures of its motions and of the real ones, and what else a result keeps.

        encoder: None trains it as well.
        """
        run = pipeline.run
        if encoder is None:
            pipeline.train(ADAQF)
            generator = MotionGenerator.from_pretrained(run.adaqf, device=pipeline.accelerator.device)
            weights = hash_of_weights(run.adaqf)
        else:
            generator = Transfer(pipeline, self.workspace.setup.families).train(arm.kind, encoder)
            weights = hash_of_weights(run.generator)
        if not pipeline.accelerator.is_main_process:
            return {}, {}, {}
        scoring, name = Scoring(pipeline), run.generator.name
        # A report voids minimal pairs if the real motions' own figure shows that they mean nothing.
        rows = Report.of({"gt": scoring.row("gt"), name: scoring.score(name, generator, weights)}, {}).rows
        test, most = _means(rows[name]), generator.levels
        for level in range(most or 0):  # R0 is the base level alone
            generator.levels = level + 1
            by_level = (
                test
                if level + 1 == most
                else _means(scoring.score(f"{name}_R{level}", generator, weights, curve=False))
            )
            test |= {f"{metric}_R{level}": by_level[metric] for metric in ("fid", "r_precision_3")}
        more = {"floor": _means(scoring.floor())}
        if name in scoring.curves:
            more["guidance"] = scoring.curves[name].as_dict()
            test["guidance"] = scoring.curves[name].chosen
        if pipeline.config.validation.every is not None:
            once = validation_protocol(pipeline.config)
            more["truth_val"] = _means(protocol.evaluate(None, pipeline.dataset("val"), scoring.judges, once))
        return test, _means(rows["gt"]), more


def _text_model(pipeline: Pipeline, adapted: Path | None) -> Path:
    """The folder of an encoder as a text model, its adapter merged into the weights; None is the base."""
    base, key = pipeline.base()
    run = pipeline.run
    if adapted is None and Path(base).is_dir():
        return Path(base)
    if adapted is not None and not (adapted / "adapter_config.json").is_file():
        return adapted

    def make() -> None:
        if pipeline.accelerator.is_main_process:
            encoder = AdaCLIP.from_base(base) if adapted is None else AdaCLIP.from_pretrained(adapted)
            save_text_model(run.encoder, encoder)

    run.stage(run.encoder.name, {"source": key if adapted is None else hash_of_weights(adapted)}, make)
    return run.encoder


def _train_moclip(pipeline: Pipeline, moclip: MoClipConfig) -> None:
    run = pipeline.run
    config = replace(moclip, seed=moclip.seed + 100 * pipeline.config.training.seed)
    base, base_key = pipeline.base()
    rival = pipeline.config.training
    settings = {"config": asdict(config), "schedule": schedule(config, rival), "base": base_key, **pipeline.inputs}

    def make() -> None:
        encoder = fit_moclip(
            pipeline.accelerator,
            pipeline.dataset("train", few=True),
            base,
            pipeline.config.extractors,
            config,
            pipeline.place(run.moclip.name, settings),
            rival,
        )
        if pipeline.accelerator.is_main_process:
            save_tuned(run.moclip, encoder, config.tuning)

    run.stage(run.moclip.name, settings, make)


def _retrieval(pipeline: Pipeline) -> Figures:
    """Retrieval figures of the feedback's extractors on real motions."""
    if not pipeline.accelerator.is_main_process:
        return {}
    dataset = pipeline.dataset(pipeline.config.evaluation.split)
    judge = load_extractors(pipeline.run.extractors, dataset, pipeline.accelerator.device)
    sets = retrieve_real(dataset, {"extractors": judge}, pipeline.config.evaluation)["extractors"]
    return {f"{which}_{name}": figure["mean"] for which, row in sets.items() for name, figure in row.items()}


def _forgetting(pipeline: Pipeline, adapted: Path) -> Figures:
    """What an adapted encoder keeps of its base."""
    encoders = {name: AdaCLIP.from_base(str(at)) for name, at in (("base", pipeline.base()[0]), ("own", adapted))}
    before, after = (encoder.encode(list(GENERAL_PROMPTS)).numpy() for encoder in encoders.values())
    figures = {f"kept_{name}": value for name, value in kept_structure(before, after).items()}
    test = pipeline.dataset(pipeline.config.evaluation.split)
    for name, encoder in encoders.items():
        towers = fit_pose_probe(
            pipeline.accelerator,
            pipeline.dataset("train"),
            encoder,
            pipeline.config.pocket_clip,
            Place(pipeline.run.log(f"probe_{name}")),
        )
        found = still_pose_retrieval(lambda prompts: encoders["own"].encode(prompts).numpy(), towers, test)
        figures["still_r3" if name == "base" else "still_r3_own"] = found["text_to_motion"]["r3"]
    return figures


def _means(row: Row) -> Figures:
    return {name: figure["mean"] for name, figure in row.items() if figure["mean"] is not None}


def _machine(accelerator: Accelerator) -> str:
    if accelerator.device.type == "cuda":
        return f"{accelerator.num_processes} x {torch.cuda.get_device_name(accelerator.device)}"
    return f"{platform.machine()} with {os.cpu_count()} cores"
