"""Write a run's folder: one launch at a time, finished stages stay finished, changed settings are refused."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock, Timeout

from adaclip.files import atomic_folder, remove_partial
from adaclip.integrity import DIGESTS, sha256_of, write_digests, write_sealed
from adaqf_train.config import RunConfig, digest
from adaqf_train.errors import RunError, RunLocked
from adaqf_train.runs.layout import RunLayout
from adaqf_train.runs.settings import as_stored, differences


class RunFolder(RunLayout):
    """A run's folder with the means to write it."""

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        super().__init__(path)
        self.accelerator = accelerator
        self.lenders: list[RunLayout] = []  # stages with equal settings are copied from them

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this launch; RunLocked if another process is writing to it."""
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
            for folder in (self.path, self.evaluation, self.validation):
                remove_partial(folder)
            yield
        finally:
            self.owner.unlink(missing_ok=True)
            lock.release()

    def stage(self, name: str, settings: dict, make: Callable[[], None], also: Sequence[str] = ()) -> str:
        """Run `make` unless this stage is recorded with the same settings; return the digest of the settings.

        settings: everything that the result depends on, including the digests of earlier stages. `make` leaves a folder
        of the stage's name, and those in `also`, atomically, on the main process. RunError if the stage was made with
        other settings.
        """
        key = digest(settings)
        done = self.stages().get(name)
        if done and all((self / part).exists() for part in (name, *also)):
            if done["digest"] == key:
                self.verified(name)
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
            folders = {part: self._sealed(self / part) for part in (name, *also)}
            write_sealed(self.records, self.stages() | {name: entry | {"folders": folders}})
        self.accelerator.wait_for_everyone()
        return key

    def borrow_from(self, other: Path) -> None:
        """Let stages be copied from another run if their settings are equal; of several such runs, from the first."""
        self.lenders.append(RunLayout(other))
        if not self.lenders[-1].records.is_file():
            raise RunError(f"{other}: not a run ({self.records.name} is missing). Give the --out of an earlier run.")

    def write_config(
        self, config: RunConfig, data: Path, base_revision: str | None = None, *, replace: bool = True
    ) -> None:
        """Write run.json: the configuration, where the data are (relative if inside the run), and the base's commit."""
        inside = data.resolve().is_relative_to(self.path.resolve())
        where = os.path.relpath(data, self.path) if inside else str(data.resolve())
        if self.accelerator.is_main_process and (replace or not self.config.is_file()):
            commit = {} if base_revision is None else {"base_revision": base_revision}
            write_sealed(self.config, {"data": where, **commit, "config": asdict(config)})

    def _sealed(self, folder: Path) -> str:
        """The SHA-256 of a folder's digests, which are written unless its writer did."""
        if not (folder / DIGESTS).is_file():
            write_digests(folder)
        return sha256_of(folder / DIGESTS)

    def _borrow(self, name: str, key: str, also: Sequence[str]) -> bool:
        parts = (name, *also)
        for lender in self.lenders:
            equal = lender.stages().get(name, {}).get("digest") == key
            if equal and all((lender / part).exists() for part in parts):
                lender.verified(name)
                for part in parts if self.accelerator.is_main_process else ():
                    copy_folder(lender / part, self / part)
                return True
        return False


def copy_folder(source: Path, to: Path) -> None:
    """Copy a folder, atomically."""
    with atomic_folder(to) as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)
