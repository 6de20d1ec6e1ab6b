"""Adapters and their files: creation, complete loading, complete saving. Safetensors only."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adaclip.card import CardDetails
from adaclip.config import AdaCLIPError, LoRASettings
from adaclip.files import read_json

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import CLIPTextModelWithProjection

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adaclip.json"  # this package's settings: a config.json would break plain transformers
BASE = "base"  # folder of a base inside the adapter's folder
BASE_FILES = ("*.json", "*.safetensors", "*.txt")
CARD = "README.md"
TOKENIZER = "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, "tokenizer.json", "special_tokens_map.json", "vocab.json", "merges.txt")
FILES = (CONFIG, WEIGHTS, SETTINGS, CARD, *TOKENIZER_FILES)  # files of an adapter's folder, apart from its base
# Fields of adapter_config.json that this package reads; peft reads the rest.
_FIELDS = {"r": int, "lora_alpha": int | float, "base_model_name_or_path": str | None}


def new_adapter(model: CLIPTextModelWithProjection, settings: LoRASettings) -> PeftModel:
    """Wrap the model with a fresh adapter: A is drawn from torch's global generator, B = 0."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        bias="none",
        task_type=None,  # FEATURE_EXTRACTION would break CLIP's forward
    )
    return get_peft_model(model, lora)


def attach_adapter(model: CLIPTextModelWithProjection, folder: Path) -> PeftModel:
    """Wrap the model with the adapter in `folder`, with all its tensors, or raise AdaCLIPError."""
    from peft import get_peft_model

    stored = read_weights(folder)
    with _config_for(model.name_or_path, folder) as config:
        wrapped = get_peft_model(model, config)
    _fill(wrapped, "default", stored, folder)
    return wrapped


def add_adapter(wrapped: PeftModel, folder: Path, name: str) -> None:
    """Add an adapter of the same base under a name, with all its tensors, or raise AdaCLIPError."""
    stored = read_weights(folder)
    with _adding(wrapped, name):
        with _config_for(wrapped.base_model.model.name_or_path, folder) as config:
            wrapped.add_adapter(name, config)
        _fill(wrapped, name, stored, folder)


def mix_adapters(wrapped: PeftModel, weights: Mapping[str, float], name: str) -> None:
    """Add an adapter whose change of the base is the weighted sum of others'."""
    if not weights:
        raise AdaCLIPError(f"{name}: a mix needs at least one adapter.")
    with _adding(wrapped, name):
        # "cat" concatenates the matrices, which is the exact sum; "linear" multiplies the mixture of A by that of B.
        wrapped.add_weighted_adapter(list(weights), list(weights.values()), name, combination_type="cat")


@contextmanager
def _adding(wrapped: PeftModel, name: str) -> Iterator[None]:
    """Check the name of a new adapter, undo a failure, and restore the active adapter and gradients."""
    if name in wrapped.peft_config or not re.fullmatch(r"[\w-]+", name):
        taken = ", ".join(wrapped.peft_config)
        raise AdaCLIPError(f"{name!r} cannot name another adapter: use letters, digits, _ and -; taken: {taken}.")
    active, learns = wrapped.active_adapter, {n: p.requires_grad for n, p in wrapped.named_parameters()}
    try:
        yield
    except Exception:
        if name in wrapped.peft_config:
            wrapped.delete_adapter(name)
        raise
    finally:
        wrapped.set_adapter(active)
        for parameter, value in wrapped.named_parameters():
            value.requires_grad_(learns.get(parameter, False))


@contextmanager
def _config_for(base: str, folder: Path) -> Iterator[LoraConfig]:
    """Yield an adapter's configuration for peft; an error of peft's becomes one that names the file."""
    from peft import LoraConfig

    try:
        config = LoraConfig.from_pretrained(str(folder))
        config.task_type = None  # peft's wrapper for a recorded FEATURE_EXTRACTION breaks CLIP's forward
        config.inference_mode = False  # AdaCLIP itself sets which parameters require gradients
        config.base_model_name_or_path = base  # the base in use may differ from the recorded one
        yield config
    except Exception as error:  # peft checks little: a wrong type or pattern fails at its first use
        raise AdaCLIPError(f"{folder / CONFIG}: does not fit the base {base}: {first_line(error)}") from error


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors under the names of CLIPTextModelWithProjection; raise AdaCLIPError if damaged.

    transformers 5.6 flattened CLIPTextModel: its adapters have tensors `encoder.…`, of which peft would load none, with
    a warning. Earlier versions and full CLIP models use `text_model.encoder.…`, as here.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdaCLIPError(f"{path}: not a readable safetensors file ({error}). Download or save it again.") from error
    for name, tensor in stored.items():
        if not tensor.isfinite().all():
            raise AdaCLIPError(
                f"{path}: tensor {name} holds NaN or infinity, so its training diverged or the file is damaged. "
                "Use an earlier checkpoint, or download it again."
            )
    flat, nested = "base_model.model.encoder.", "base_model.model.text_model.encoder."
    return {nested + name.removeprefix(flat) if name.startswith(flat) else name: t for name, t in stored.items()}


def _fill(wrapped: PeftModel, name: str, stored: dict[str, torch.Tensor], folder: Path) -> None:
    """Copy the tensors into the adapter `name`, and check each of them."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    path = folder / WEIGHTS

    def held() -> dict[str, torch.Tensor]:
        return get_peft_model_state_dict(wrapped, adapter_name=name, save_embedding_layers=False)

    _compare(held(), stored, path)
    set_peft_model_state_dict(wrapped, stored, adapter_name=name)
    for tensor, value in held().items():
        if not torch.equal(value.cpu(), stored[tensor].to(value.dtype)):
            raise AdaCLIPError(f"{path}: tensor {tensor} did not reach the model. Please report this as a bug.")


def write_active(model: PeftModel, folder: Path) -> None:
    """Write the active adapter's weights and configuration as peft does, but always into `folder` itself."""
    active = model.active_adapter
    model.save_pretrained(str(folder), save_embedding_layers=False, selected_adapters=[active])
    if (folder / active).is_dir():  # peft's place for adapters with a name other than "default"
        shutil.copytree(folder / active, folder, dirs_exist_ok=True)
        shutil.rmtree(folder / active)


def saved_details(folder: Path) -> CardDetails:
    """Return the licence, data sets and metrics that an adapter folder records; empty if another program saved it."""
    try:
        return CardDetails.from_dict(read_json(folder / SETTINGS)) if (folder / SETTINGS).is_file() else CardDetails()
    except (ValueError, TypeError) as error:
        raise AdaCLIPError(f"{folder / SETTINGS}: {first_line(error)} Download or save the adapter again.") from error


def adapter_config(folder: Path) -> dict:
    """Read and check adapter_config.json; raise AdaCLIPError if it is damaged."""
    try:
        config = read_json(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise AdaCLIPError(f"{error} Download or save the adapter again.") from error
    if config.get("peft_type") != "LORA":
        raise AdaCLIPError(f"{folder / CONFIG}: expected the configuration of a LoRA adapter (peft_type LORA).")
    for name, kind in _FIELDS.items():
        value = config.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise AdaCLIPError(f"{folder / CONFIG}: {name} is {value!r}. Download or save the adapter again.")
    return config


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _compare(expected: dict[str, torch.Tensor], stored: dict[str, torch.Tensor], path: Path) -> None:
    differing = {"missing": expected.keys() - stored.keys(), "unknown": stored.keys() - expected.keys()}
    if any(differing.values()):
        parts = [f"{len(names)} {what} (first: {min(names)})" for what, names in differing.items() if names]
        raise AdaCLIPError(
            f"{path}: {' and '.join(parts)} of {len(expected)} adapter tensors. "
            "The adapter was made for another base or model class; pass the right base=."
        )
    for name, tensor in expected.items():
        if stored[name].shape != tensor.shape:
            raise AdaCLIPError(
                f"{path}: tensor {name} has shape {tuple(stored[name].shape)}, the base needs {tuple(tensor.shape)}. "
                "The adapter was made for another base; pass the right base=."
            )
