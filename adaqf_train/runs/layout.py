"""The layout of a run's folder, and its configuration."""

from __future__ import annotations

from pathlib import Path

from adaclip.files import FileError
from adaclip.integrity import DIGESTS, check_digests, read_sealed, sha256_of
from adaqf_train.config import RunConfig, build, digest
from adaqf_train.errors import ConfigError, RunError

BASELINE, ADAQF = ARMS = ("baseline", "adaqf")  # the two generators of a run, and their stages


class RunLayout:
    """Where a run keeps everything."""

    def __init__(self, path: Path) -> None:
        self.path = path = Path(path)
        self._verified: set[str] = set()  # stages whose files this object has compared with their digests
        # Records.
        self.lock, self.owner = path / ".lock", path / ".pid"
        self.config = path / "run.json"  # the configuration, and where the data are
        self.records = path / "stages.json"  # finished stages with their settings
        self.logs = path / "logs"
        # Stages, a folder each. A stage and its folder have the same name.
        self.data = path / "data"  # the demo's motions; other runs read their data where they are
        self.pocket_clip = path / "pocket_clip"  # the base, if the recipe trains it
        self.extractors = path / "extractors"
        self.evaluator = path / "evaluator"
        self.joint_evaluator = path / "joint_evaluator"  # the second one; runs of an earlier version have none
        self.aligned = path / "aligned"  # the start of AdaQF's encoder, if it is aligned by contrast first
        self.baseline, self.adaqf = path / "baseline", path / "adaqf"  # generators
        self.adaclip = path / "adaclip"  # AdaQF's encoder: an adapter, or a text model after full tuning
        # Of studies: a frozen encoder, a generator that is trained under it, and the rival encoder.
        self.encoder, self.generator, self.moclip = path / "encoder", path / "generator", path / "moclip"
        # What comes after training.
        self.validation = path / "validation"  # pictures
        self.evaluation = path / "evaluation"  # scores of each replication
        self.report, self.report_text = path / "report.json", path / "report.md"
        self.page = path / "motions.html"
        self.hub = path / "hub"  # what `push --dry-run` would push

    def __truediv__(self, name: str) -> Path:
        """The folder of a stage."""
        return self.path / name

    def stages(self) -> dict[str, dict]:
        """The records of the finished stages: digest, seconds, processes, settings, SHA-256 of their digests.json."""
        if not self.records.is_file():
            return {}
        return read_sealed(self.records, "Restore it, or delete it and run the same command again, which trains again.")

    def verified(self, stage: str) -> Path:
        """The folder of a stage; RunError if one of the stage's files changed since the stage finished."""
        remedy = (
            f"Restore it, or delete {self / stage} and run the same command again: it repeats the stage {stage} and "
            "those that are missing."
        )
        if stage not in self._verified:
            try:
                for part, recorded in self.stages().get(stage, {}).get("folders", {}).items():
                    record = self / part / DIGESTS
                    if not record.is_file() or sha256_of(record) != recorded:
                        raise RunError(f"{record}: changed since the stage {stage} finished. {remedy}")
                    check_digests(self / part, remedy, whole=True)
            except FileError as error:
                raise RunError(str(error)) from error
            self._verified.add(stage)
        return self / stage

    def log(self, stage: str) -> Path:
        """The losses of a stage, a JSON line each."""
        return self.logs / f"{stage}.jsonl"

    def curve(self, stage: str) -> Path:
        """The scores of a generator on val during its training, a JSON line each."""
        return self.logs / f"{stage}_validation.jsonl"

    def checkpoints(self, stage: str, settings: dict) -> Path:
        """The checkpoints of a stage under these settings: never resumed under others."""
        return self.path / "checkpoints" / stage / digest(settings)


def read_config(path: Path) -> tuple[RunConfig, Path]:
    """Read a run's configuration and where its data are; RunError if there is none, or another version wrote it."""
    file = RunLayout(path).config
    if not file.is_file():
        raise RunError(f"{path}: not a run ({file.name} is missing). Give the --out of an earlier run.")
    content = read_sealed(file, "Restore it, or run the same command again with its options, which writes it again.")
    try:
        return build(RunConfig, content["config"]), path / content["data"]
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise RunError(f"{file}: not a configuration this version wrote ({error}). Make the run again.") from error
