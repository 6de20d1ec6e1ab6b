"""The text encoders that generators are trained under: the base, AdaCLIPs, and the rival encoder (MoCLIP's way)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from adaclip import AdaCLIP
from adaclip.files import read_json
from adaqf_train.config import to_dict
from adaqf_train.encoders.moclip import fit_moclip, save_moclip
from adaqf_train.errors import RunError
from adaqf_train.evaluation.manifest import hash_of_weights
from adaqf_train.judges import store
from adaqf_train.runs.folder import RunFolder
from adaqf_train.runs.layout import ADAQF
from adaqf_train.runs.settings import changes
from adaqf_train.runs.stages import Pipeline
from adaqf_train.studies.schema import Arm, Source
from adaqf_train.studies.workspace import Workspace


@dataclass(frozen=True)
class Sources:
    """Trains encoders, unless they exist."""

    workspace: Workspace

    def adapted(self, label: str, source: Source, seed: int) -> Path | None:
        """The folder of an encoder, trained unless it exists; None for the base, which is not trained."""
        if source.kind == "base":
            return None
        setup, workspace, arm = self.workspace.setup, self.workspace, Arm("", source.settings)
        where = setup.source_data(label, source)
        run = workspace.run(f"{setup.source_key(label, source)}-seed{seed}")
        train: Callable[[Pipeline], object]
        if source.kind == "adaclip":
            folder, train = run.adaclip, lambda pipeline: pipeline.train(ADAQF)
        else:
            folder, train = run.moclip, self._train_moclip
        workspace.once(run, folder.is_dir, lambda: train(workspace.pipeline(run, where, arm, seed)))
        found = [changes(read_json(run.config)["config"], setup.arm_config(arm, seed), "config.")]
        if source.kind == "moclip":
            moclip = setup.families.moclip
            found.append(
                changes(run.stages()[run.moclip.name]["settings"]["config"] | {"seed": moclip.seed}, moclip, "moclip.")
            )
        if changed := ", ".join(filter(None, found)):
            raise RunError(f"{run.path}: made with other settings ({changed}). Give another --out, or delete this run.")
        return folder

    def text_model(self, pipeline: Pipeline, adapted: Path | None) -> Path:
        """The folder of an encoder as a CLIP text model, its adapter merged into the weights; None is the base."""
        base, key = pipeline.base()
        run: RunFolder = pipeline.run
        if adapted is None and Path(base).is_dir():
            return Path(base)
        if adapted is not None and not (adapted / "adapter_config.json").is_file():
            return adapted

        def make() -> None:
            if pipeline.accelerator.is_main_process:
                encoder = AdaCLIP.from_base(base) if adapted is None else AdaCLIP.from_pretrained(adapted)
                store.save_clip(run.encoder, encoder.merged(), encoder.tokenizer)

        run.stage(run.encoder.name, {"source": key if adapted is None else hash_of_weights(adapted)}, make)
        return run.encoder

    def _train_moclip(self, pipeline: Pipeline) -> None:
        run, moclip = pipeline.run, self.workspace.setup.families.moclip
        config = replace(moclip, seed=moclip.seed + 100 * pipeline.config.training.seed)
        base, base_key = pipeline.base()
        settings = {"config": to_dict(config), "base": base_key, **pipeline.inputs}

        def make() -> None:
            encoder = fit_moclip(
                pipeline.accelerator,
                pipeline.dataset("train", few=True),
                base,
                pipeline.config.extractors,
                config,
                pipeline.place(run.moclip.name, settings),
                pipeline.config.training.trackers,
            )
            if pipeline.accelerator.is_main_process:
                save_moclip(run.moclip, encoder, config)

        run.stage(run.moclip.name, settings, make)
