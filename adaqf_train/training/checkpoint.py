"""Checkpoints: folders of safetensors and JSON that appear whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adaclip import AdaCLIPError
from adaclip.files import atomic_folder, read_json, remove_partial, write_json

TENSORS, META = "tensors.safetensors", "checkpoint.json"


class CheckpointError(AdaCLIPError):
    """A checkpoint that cannot be read."""


@dataclass
class TrainState:
    """Everything that changes during training. Draws are functions of the step (`data.batches`), so there is
    no generator state in it."""

    modules: Mapping[str, nn.Module]  # parameters that require gradients and lasting buffers are saved
    optimizer: torch.optim.Optimizer
    average: list[Tensor] | None = None  # moving average of the trainable parameters, in their order
    step: int = 0  # optimisation steps done

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


def save(folder: Path, state: TrainState, keep: int = 2) -> None:
    """Writes `folder/step_N` and removes all but the newest `keep` checkpoints."""
    with atomic_folder(folder / f"step_{state.step:08d}") as staging:
        save_file(state.tensors(), staging / TENSORS)
        write_json(staging / META, {"step": state.step})
    for old in _newest_first(folder)[keep:]:
        shutil.rmtree(old)


def resume(folder: Path, state: TrainState) -> bool:
    """Loads the newest checkpoint into `state`; False when there is none. CheckpointError when it cannot be read."""
    if not folder.is_dir():
        return False
    found = _newest_first(folder)
    if not found:
        return False
    newest = found[0]
    try:
        state.load(load_file(newest / TENSORS))
        state.step = int(read_json(newest / META)["step"])
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{newest}: this checkpoint cannot be read ({error}). Delete it to go on from the one before."
        ) from error
    return True


def clean(folder: Path) -> None:
    """Removes what a killed writer left behind."""
    if folder.is_dir():
        remove_partial(folder)


def _learnt(module: nn.Module) -> dict[str, Tensor]:
    """What training changes in a module, by name: parameters that require gradients, and buffers such as codebooks."""
    fixed = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in fixed}


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*"), reverse=True)
