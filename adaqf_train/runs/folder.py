"""A run's folder: its layout, one writer at a time, finished stages, and settings that changed since."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock, Timeout

from adaclip.files import atomic_folder, read_json, remove_partial, write_json
from adaqf_train.config import RunConfig, digest, from_dict, to_dict
from adaqf_train.errors import ConfigError, RunError, RunLocked
from adaqf_train.runs.settings import as_stored, differences


class RunLayout:
    """Where a run keeps everything."""

    def __init__(self, path: Path) -> None:
        self.path = path = Path(path)
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
        self.baseline, self.adaqf = path / "baseline", path / "adaqf"  # generators
        self.adaclip = path / "adaclip"  # AdaQF's encoder: an adapter, or a text model after full tuning
        self.encoder, self.generator = (
            path / "encoder",
            path / "generator",
        )  # of studies: a frozen encoder, and under it
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
        """The records of the finished stages: digest, seconds, processes, settings."""
        return read_json(self.records) if self.records.is_file() else {}

    def log(self, stage: str) -> Path:
        """The losses of a stage, a JSON line each."""
        return self.logs / f"{stage}.jsonl"

    def checkpoints(self, stage: str, settings: dict) -> Path:
        """The checkpoints of a stage under these settings: never resumed under others."""
        return self.path / "checkpoints" / stage / digest(settings)


class RunFolder(RunLayout):
    """A run's folder, for those who write to it: one launch at a time, and finished stages stay finished."""

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        super().__init__(path)
        self.accelerator = accelerator
        self.lender: RunLayout | None = None  # stages with equal settings are copied from it

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this launch.

        Raises:
            RunLocked: Another process is writing to it.
            RunError: It cannot be written.
        """
        if not self.accelerator.is_main_process:
            yield
            return
        # The system drops this lock however the process ends, so no stale lock stays behind.
        lock = FileLock(self.lock)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            self.owner.write_text(f"{os.getpid()}\n")
        except Timeout:
            pid = self.owner.read_text().strip() if self.owner.is_file() else "unknown"
            raise RunLocked(
                f"{self.path}: process {pid} is writing this run. Wait for it, stop it, or give another --out."
            ) from None
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror}). Give another --out.") from error
        try:
            remove_partial(self.path)
            yield
        finally:
            self.owner.unlink(missing_ok=True)
            lock.release()

    def stage(self, name: str, settings: dict, make: Callable[[], None], also: Sequence[str] = ()) -> str:
        """Run `make` unless this stage is recorded with the same settings.

        Args:
            name: Of the stage and of the folder that `make` leaves, atomically, on the main process.
            settings: Everything that the result depends on, including the digests of earlier stages.
            make: The work.
            also: Other folders that `make` leaves.

        Returns:
            The digest of the settings.

        Raises:
            RunError: The stage was made with other settings.
        """
        key = digest(settings)
        done = self.stages().get(name)
        if done and all((self / part).exists() for part in (name, *also)):
            if done["digest"] == key:
                return key
            raise RunError(
                f"{self / name}: made with other settings ({differences(done['settings'], as_stored(settings))}). "
                "Give another --out, or delete this run."
            )
        started = time.monotonic()
        borrowed = self._borrow(name, key, also)
        if not borrowed:
            make()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            seconds = 0.0 if borrowed else round(time.monotonic() - started, 1)
            processes = self.accelerator.num_processes
            entry = {"digest": key, "seconds": seconds, "processes": processes, "settings": settings}
            write_json(self.records, self.stages() | {name: entry})
        self.accelerator.wait_for_everyone()
        return key

    def borrow_from(self, other: Path) -> None:
        """Let stages be copied from another run if their settings are equal."""
        self.lender = RunLayout(other)
        if not self.lender.records.is_file():
            raise RunError(f"{other}: not a run ({self.records.name} is missing). Give the --out of an earlier run.")

    def write_config(self, config: RunConfig, data: Path, *, replace: bool = True) -> None:
        """Write run.json: the configuration and where the data are (relative if inside the run)."""
        inside = data.resolve().is_relative_to(self.path.resolve())
        where = os.path.relpath(data, self.path) if inside else str(data.resolve())
        if self.accelerator.is_main_process and (replace or not self.config.is_file()):
            write_json(self.config, {"data": where, "config": to_dict(config)})

    def _borrow(self, name: str, key: str, also: Sequence[str]) -> bool:
        lender, parts = self.lender, (name, *also)
        if lender is None or lender.stages().get(name, {}).get("digest") != key:
            return False
        if not all((lender / part).exists() for part in parts):
            return False
        for part in parts if self.accelerator.is_main_process else ():
            with atomic_folder(self / part) as staging:
                shutil.copytree(lender / part, staging, dirs_exist_ok=True)
        return True


def read_config(path: Path) -> tuple[RunConfig, Path]:
    """Read run.json.

    Returns:
        The configuration of a run, and where its data are.

    Raises:
        RunError: The folder is not a run, or another version wrote its configuration.
    """
    file = RunLayout(path).config
    if not file.is_file():
        raise RunError(f"{path}: not a run ({file.name} is missing). Give the --out of an earlier run.")
    content = read_json(file)
    try:
        return from_dict(content["config"]), path / content["data"]
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise RunError(f"{file}: not a configuration this version wrote ({error}). Make the run again.") from error
