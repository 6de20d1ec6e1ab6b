"""Checkpoints: folders of safetensors and JSON that appear whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from adaclip.files import atomic_folder, remove_partial
from adaclip.integrity import read_sealed, write_sealed
from adaqf_train.artefacts import read_tensors
from adaqf_train.errors import CheckpointError

TENSORS, META = "tensors.safetensors", "checkpoint.json"


@dataclass
class TrainState:
    """Everything that changes during training.

    It contains no generator state, because all random draws are functions of the step (`data.batches`).
    """

    modules: Mapping[str, nn.Module]  # parameters that require gradients and lasting buffers are saved
    optimizer: torch.optim.Optimizer
    average: list[Tensor] | None = None  # moving average of the trainable parameters, in their order
    scaler: torch.amp.GradScaler | None = None  # of fp16
    step: int = 0  # optimisation steps done
    record: dict = field(default_factory=dict)  # what validations have found

    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, in a fixed order."""
        return [p for module in self.modules.values() for p in module.parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """The state by name."""
        named = {
            f"{part}/{name}": value for part, module in self.modules.items() for name, value in _learnt(module).items()
        }
        optimizer = {
            f"optimizer/{index}/{name}": value
            for index, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        average = {f"average/{index}": value for index, value in enumerate(self.average or [])}
        return {name: value.cpu().contiguous() for name, value in (named | optimizer | average).items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts a saved state back; KeyError or RuntimeError when it does not fit."""
        with torch.no_grad():
            for part, module in self.modules.items():
                for name, value in _learnt(module).items():
                    value.copy_(tensors[f"{part}/{name}"])
            for index, value in enumerate(self.average or []):
                value.copy_(tensors[f"average/{index}"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, index, name = key.split("/")
                state.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the parameters hold their moving average, if there is one."""
        if self.average is None:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.parameters()]
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(own)

    def use_average(self) -> None:
        """Puts the moving average into the parameters, if there is one."""
        if self.average is not None:
            self._fill(self.average)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters(), values, strict=True):
            parameter.copy_(value)


def save(folder: Path, state: TrainState, keep: int = 2) -> None:
    """Writes `folder/step_N` and removes all but the newest `keep` of them.

    Those of later steps are damaged, or training would have gone on from them: they go first.
    """
    written = folder / f"step_{state.step:08d}"
    write(written, state)
    for later in folder.glob("step_*"):
        if later.name > written.name:
            shutil.rmtree(later)
    _remove_old(folder, keep)


def write(folder: Path, state: TrainState) -> None:
    """Writes one checkpoint; CheckpointError when it cannot be written, and then what was there before still is."""
    try:
        with atomic_folder(folder) as staging:
            save_file(state.tensors(), staging / TENSORS)
            scaler = state.scaler.state_dict() if state.scaler is not None else None
            meta = {"step": state.step, "record": state.record, "scaler": scaler, "digest": _digest(staging / TENSORS)}
            write_sealed(staging / META, meta)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{folder}: the checkpoint of step {state.step} cannot be written ({reason}). Those before it are whole. "
            "Make room, or make the folder writable; the same command resumes from the last one."
        ) from error


def read(folder: Path, state: TrainState) -> None:
    """Loads one checkpoint into `state`; CheckpointError when it is damaged."""
    try:
        meta = read_sealed(folder / META, "")
        if _digest(folder / TENSORS) != meta["digest"]:
            raise ValueError("its tensors are not those that were written")
        state.load(read_tensors(folder / TENSORS))
        if state.scaler is not None and meta["scaler"] is not None:
            state.scaler.load_state_dict(meta["scaler"])
        state.step, state.record = int(meta["step"]), dict(meta["record"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: this checkpoint cannot be read ({error}). Delete it to go on without it."
        ) from error


def resume(folder: Path, state: TrainState) -> bool:
    """Loads the newest checkpoint that is whole into `state`, with a warning for each that is not.

    False when there is none. CheckpointError when there are some and all are damaged.
    """
    found = _newest_first(folder)
    for newest in found:
        try:
            read(newest, state)
        except CheckpointError as error:
            if newest == found[-1]:
                raise
            warnings.warn(f"{error} Going on from the one before.", stacklevel=2)
        else:
            return True
    return False


def clean(folder: Path, keep: int) -> None:
    """Removes what a killed `save` left behind: half a checkpoint, or more than the newest `keep`."""
    if folder.is_dir():
        remove_partial(folder)
        _remove_old(folder, keep)


def _remove_old(folder: Path, keep: int) -> None:
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)


def _learnt(module: nn.Module) -> dict[str, Tensor]:
    """What training changes in a module, by name: parameters that require gradients, and buffers such as codebooks.

    A weight that has several names, such as T5's embeddings, appears once.
    """
    learn = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    learn |= {name for name, _ in module.named_buffers()}
    return {name: value for name, value in module.state_dict().items() if name in learn}


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*"), reverse=True)


def _digest(path: Path) -> str:
    """Of a file's bytes: safetensors would read flipped ones as other numbers."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
