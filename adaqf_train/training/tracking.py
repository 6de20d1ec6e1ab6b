"""What is seen of a fit: JSON lines, accelerate's trackers, and one live line."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from adaqf_train.config import digest
from adaqf_train.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


class Tracking:
    """The records of one fit; a resumed one drops what lies after its checkpoint. On the main process only."""

    def __init__(self, name: str, log: Path, trackers: Sequence[str], steps: int, step: int, validated: int) -> None:
        """log: the JSON lines of the losses; those of validations go beside it, and so do the trackers' files.

        step, validated: of the checkpoint that is gone on from: steps done, and the step of its last validation.
        """
        self.name, self.log = name, log
        self.validations = log.with_name(f"{log.stem}_validation.jsonl")
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            for path, last in ((log, step), (self.validations, validated)):
                if path.is_file():
                    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= last]
                    path.write_text("".join(f"{line}\n" for line in kept))
            self.file = log.open("a")
            self.trackers = [_start(tracker, log, step) for tracker in trackers]
        except OSError as error:
            raise self._failed(error) from error
        self.bar = tqdm(total=steps, initial=step, desc=name, unit="step", mininterval=0.5)

    def advance(self) -> None:
        """One more step is done."""
        self.bar.update()

    def losses(self, step: int, values: Mapping[str, float], norm: float, rate: float) -> None:
        """Writes a step's losses, the norm of its gradients and its learning rate, and shows them."""
        self._write(self.file.write, json.dumps({"step": step, **values}) + "\n")
        self._track(step, {**values, "grad_norm": norm, "learning_rate": rate})
        shown = {**values, "grad_norm": norm}
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the figures of a validation."""
        try:
            with self.validations.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise self._failed(error) from error
        self._track(step, {f"validation/{name}": value for name, value in values.items()})

    def say(self, message: str) -> None:
        """A line of its own above the live one."""
        self.bar.write(f"{self.name}: {message}")

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self.file.close()
        for tracker in self.trackers:
            tracker.finish()

    def _write(self, write, line: str) -> None:
        try:
            write(line)
            self.file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _track(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            try:
                tracker.log(dict(values), step=step)
            except OSError as error:
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> TrackingError:
        return TrackingError(
            f"{self.log}: the losses cannot be written ({error.strerror or error}). Make room or give another --out; "
            "the same command resumes from the last checkpoint."
        )


class Untracked:
    """What the other processes have in the place of `Tracking`: nothing."""

    def __enter__(self) -> Untracked:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self) -> None:
        pass

    def losses(self, step: int, values: Mapping[str, float], norm: float, rate: float) -> None:
        pass

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def say(self, message: str) -> None:
        pass


def check_trackers(names: Sequence[str]) -> None:
    """ConfigError for a tracker whose package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"training.trackers names {name}, which is not installed. Install it (pip install {name}), or choose "
                "others with --set training.trackers=… (nothing after the sign: none)."
            )


def _start(name: str, log: Path, step: int) -> GeneralTracker:
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    check_trackers([name])
    if name == "tensorboard":
        # Events after the checkpoint, which will come again, are not shown.
        tracker = TensorBoardTracker(log.stem, log.parent, purge_step=step + 1)
    else:
        run = log.parent.parent.name
        identity = digest(str(log.resolve()))  # the same for a resumed fit, whose curves go on
        tracker = WandBTracker("adaqf", dir=str(log.parent), name=f"{run} {log.stem}", id=identity, resume="allow")
    try:
        tracker.start()
    except OSError:
        raise
    except Exception as error:  # wandb's own classes, which need wandb to be named
        reason = (str(error).splitlines() or [error.__class__.__name__])[0]
        raise TrackingError(
            f"{name} cannot be used ({reason}). For wandb: run wandb login, or set WANDB_MODE=offline; or choose other "
            "training.trackers."
        ) from error
    return tracker


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # a line that a kill cut short
