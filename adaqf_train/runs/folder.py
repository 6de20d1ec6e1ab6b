"""A run's folder: one writer at a time, stages that are done stay done, settings that changed are noticed."""

from __future__ import annotations

import json
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

LOCK, OWNER, STAGES, CONFIG = ".lock", ".pid", "stages.json", "run.json"


class RunFolder:
    """Where a run keeps everything; see the README for the list."""

    def __init__(self, path: Path, accelerator: Accelerator) -> None:
        self.path, self.accelerator = Path(path), accelerator
        self.lender: Path | None = None  # a run whose finished stages are copied where their settings are the same

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process (and the others of its launch); RunError names a second writer."""
        if not self.accelerator.is_main_process:
            yield
            return
        # The system drops this lock when the process ends, however it ends: nothing stale is left behind.
        lock, owner = FileLock(self.path / LOCK), self.path / OWNER
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            owner.write_text(f"{os.getpid()}\n")
        except Timeout:
            pid = owner.read_text().strip() if owner.is_file() else "unknown"
            raise RunLocked(
                f"{self.path}: process {pid} is writing this run. Wait for it, stop it, or give another --out."
            ) from None
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror}). Give another --out.") from error
        try:
            remove_partial(self.path)
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def stage(self, name: str, settings: dict, make: Callable[[], None], also: Sequence[str] = ()) -> str:
        """Runs `make` unless this stage is recorded with the same settings; returns the settings' digest.

        make: leaves its result in `self / name`, atomically, on the main process. settings: everything the
        result depends on; the digests of earlier stages go in it. also: other folders that `make` leaves. RunError when
        the stage was made with other settings.
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
            write_json(self / STAGES, self.stages() | {name: entry})
        self.accelerator.wait_for_everyone()
        return key

    def stages(self) -> dict[str, dict]:
        """What is done, by stage."""
        return _stages(self.path)

    def borrow_from(self, other: Path) -> None:
        """Lets stages be copied from another run where their settings are this run's."""
        if not (other / STAGES).is_file():
            raise RunError(f"{other}: not a run ({STAGES} is missing). Give the --out of an earlier run.")
        self.lender = other

    def write_config(self, config: RunConfig, data: Path, *, replace: bool = True) -> None:
        """run.json: the configuration and where the data are (relative when inside the run)."""
        inside = data.resolve().is_relative_to(self.path.resolve())
        where = os.path.relpath(data, self.path) if inside else str(data.resolve())
        if self.accelerator.is_main_process and (replace or not (self / CONFIG).is_file()):
            write_json(self / CONFIG, {"data": where, "config": to_dict(config)})

    def _borrow(self, name: str, key: str, also: Sequence[str]) -> bool:
        if self.lender is None or _stages(self.lender).get(name, {}).get("digest") != key:
            return False
        if not all((self.lender / part).exists() for part in (name, *also)):
            return False
        for part in (name, *also) if self.accelerator.is_main_process else ():
            with atomic_folder(self / part) as staging:
                shutil.copytree(self.lender / part, staging, dirs_exist_ok=True)
        return True


def read_config(path: Path) -> tuple[RunConfig, Path]:
    """The configuration of a run and where its data are; RunError when it is not a run."""
    if not (path / CONFIG).is_file():
        raise RunError(f"{path}: not a run ({CONFIG} is missing). Give the --out of an earlier run.")
    content = read_json(path / CONFIG)
    try:
        return from_dict(content["config"]), path / content["data"]
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise RunError(
            f"{path / CONFIG}: not a configuration this version wrote ({error}). Make the run again."
        ) from error


def _stages(path: Path) -> dict[str, dict]:
    return read_json(path / STAGES) if (path / STAGES).is_file() else {}


def as_stored(settings: dict) -> dict:
    """Settings as they come back from JSON, which knows no tuples."""
    return json.loads(json.dumps(settings))


def differences(old: dict, new: dict, prefix: str = "") -> str:
    """Which settings differ, as "name: old -> new"."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = differences(a, b, f"{prefix}{name}.")
            found += [inner] if inner else []
        elif a != b:
            found.append(f"{prefix}{name}: {a} -> {b}")
    return ", ".join(found)
