"""Adapters and their files: creation, complete loading, complete saving. Safetensors only."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adaclip.card import CardDetails
from adaclip.config import AdaCLIPError, LoRASettings
from adaclip.factors import PREFIX, Factor, mixed, plain_lora, without_residual
from adaclip.files import read_json, write_json
from adaclip.integrity import CHANGED, DIGESTS, check_digests
from adaclip.lora_config import CONFIG, LORA_RECORD, adapter_config, check_lora_digest, peft_config, residual_init
from adaclip.lora_files import WEIGHTS, other_tools, read_tensors, read_weights, under_names_of
from adaclip.towers import tower_for, tower_of_class

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

SETTINGS = "adaclip.json"  # this package's settings: a config.json would break plain transformers
BASE = "base"  # folder of a base inside the adapter's folder; also the name of the encoder without an adapter
BASE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
BASE_FILES += ("[0-9]_*/config.json", "[0-9]_*/model.safetensors")  # modules of sentence-transformers
CARD = "README.md"
TOKENIZER = "tokenizer_config.json"
TOKENIZER_FILES = (TOKENIZER, "tokenizer.json", "special_tokens_map.json", "vocab.json", "merges.txt")
FILES = (CONFIG, WEIGHTS, SETTINGS, DIGESTS, CARD, *TOKENIZER_FILES)  # of an adapter's folder, without its base
LIKELY_RANK = 256  # a configuration's rank up to this is taken without a tensor that has it
OTHER_BASE = "The adapter was made for another base or model class; pass the right base=."


def new_adapter(model: PreTrainedModel, settings: LoRASettings) -> PeftModel:
    """Wrap the model with a fresh adapter: A is drawn from torch's global generator, B = 0."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=tower_for(model.config.model_type).target_modules(settings.modules),
        bias="none",
        task_type=None,  # FEATURE_EXTRACTION would break CLIP's forward
    )
    return get_peft_model(model, lora)


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter as read from files, for one model."""

    config: LoraConfig
    tensors: dict[str, torch.Tensor]  # under peft's names
    path: Path  # for messages


def read_adapter(place: Path, model: nn.Module) -> StoredAdapter:
    """Read an adapter folder, or a LoRA file of another program, for a model with or without adapters.

    An adapter of PiSSA or OLoRA, which peft loads by changing the base, becomes plain LoRA of twice the rank.
    """
    modules = plain_modules(model)
    modules.pop("", None)  # the model itself
    linear = {name: m.weight for name, m in modules.items() if isinstance(m, nn.Linear)}
    config: Mapping[str, object]
    if place.is_file():
        path = place
        stored, metadata = read_tensors(place)
        config, tensors = plain_lora(other_tools(place, stored, metadata, linear))
    else:
        path, config = place / WEIGHTS, adapter_config(place)
        _check_family(config, model, place)
        tensors = under_names_of(modules, read_weights(place), path)
        init = residual_init(config)
        if init:
            config, tensors = plain_lora(_relative_to_base(init, config, tensors, linear, path))
        config = _without_absent(config, modules)
    try:
        return StoredAdapter(peft_config(config, modules), tensors, path)
    except (ValueError, TypeError) as error:
        raise _misfit(place, model, error) from error


def _check_family(config: Mapping[str, Any], model: nn.Module, place: Path) -> None:
    """Raise AdaCLIPError if the adapter records a model class of another family, whose names and shapes may agree."""
    mapping = config.get("auto_mapping")
    recorded = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    tower, own = tower_of_class(str(recorded)), tower_for(model.config.model_type)
    if tower is not None and tower is not own:
        raise AdaCLIPError(
            f"{place}: this adapter was made for a {tower.name} encoder ({recorded}), but the base "
            f"{model.name_or_path} is a {own.name} encoder. Pass the right base=."
        )


def plain_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a model by name, without what peft adds; of an adapted module, the original."""
    found: dict[str, nn.Module] = {}
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        original = getattr(module, "base_layer", getattr(module, "original_module", None))
        if original is not None:
            inside = (*inside, f"{name}.")
        found[name] = module if original is None else original
    return found


def _relative_to_base(
    init: str,
    config: Mapping[str, Any],
    tensors: dict[str, torch.Tensor],
    linear: Mapping[str, torch.Tensor],
    path: Path,
) -> dict[str, list[Factor]]:
    """Return the changes that an adapter of PiSSA or OLoRA makes to the original base."""
    changes = {}
    lora = peft_config(config, linear)
    for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
        module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        down, up = tensors.pop(name), tensors.pop(name.replace(".lora_A.", ".lora_B."), None)
        if up is None or module not in linear:
            raise AdaCLIPError(f"{path}: tensor {name} has no counterpart in the base or in the file. {OTHER_BASE}")
        if (len(up), down.shape[1]) != tuple(linear[module].shape):
            raise AdaCLIPError(f"{path}: tensor {name} does not fit the base's {module}. {OTHER_BASE}")
        alpha, rank = lora.alpha_pattern.get(module, lora.lora_alpha), lora.rank_pattern.get(module, lora.r)
        scale = alpha / (math.sqrt(rank) if lora.use_rslora else rank)
        changes[module] = without_residual(init, module, Factor(down, scale * up), linear[module], scale)
    if tensors or not changes:
        raise AdaCLIPError(
            f"{path}: {len(tensors)} tensors beside LoRA matrices do not go with init_lora_weights {init}."
        )
    return changes


def _without_absent(config: Mapping[str, Any], modules: Mapping[str, object]) -> dict[str, Any]:
    """Return the configuration without modules to save that the model lacks, such as those of a vision tower."""
    names = config.get("modules_to_save") or []
    kept = [name for name in names if any(m == name or m.endswith(f".{name}") for m in modules)]
    return {**config, "modules_to_save": kept or None}


def attach_adapter(model: nn.Module, place: Path) -> PeftModel:
    """Wrap the model with the adapter in `place`, with all its tensors, or raise AdaCLIPError."""
    from peft import get_peft_model

    return _attached(lambda stored: get_peft_model(model, stored.config), model, place, "default")


def add_adapter(wrapped: PeftModel, place: Path, name: str) -> None:
    """Add an adapter of the same base under a name, with all its tensors, or raise AdaCLIPError."""
    model = wrapped.base_model.model
    with _adding(wrapped, name):
        _attached(lambda stored: wrapped.add_adapter(name, stored.config) or wrapped, model, place, name)


def _attached(build: Callable[[StoredAdapter], PeftModel], model: nn.Module, place: Path, name: str) -> PeftModel:
    """Build the modules of an adapter and fill them; an error of peft's becomes one that names the file."""
    stored = read_adapter(place, model)
    stored.config.base_model_name_or_path = model.name_or_path  # the base in use may differ from the recorded one
    _check_ranks(stored)
    try:
        wrapped = build(stored)
    except Exception as error:  # peft checks little: a wrong type fails at its first use
        raise _misfit(place, model, error) from error
    _fill(wrapped, name, stored)
    if place.is_dir():  # last, because the messages above say more
        check_lora_digest(adapter_config(place), settings_of(place).get(LORA_RECORD), place / CONFIG)
        check_digests(place, CHANGED)
    return wrapped


def _misfit(place: Path, model: nn.Module, error: Exception) -> AdaCLIPError:
    path = place / CONFIG if place.is_dir() else place
    return AdaCLIPError(f"{path}: does not fit the base {model.name_or_path}: {first_line(error)}")


def mix_adapters(wrapped: PeftModel, weights: Mapping[str, float], name: str) -> None:
    """Add a plain LoRA adapter whose change of the base is the weighted sum of others'."""
    if not weights:
        raise AdaCLIPError(f"{name}: a mix needs at least one adapter.")
    for adapter, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise AdaCLIPError(f"{name}: the weight of {adapter} is {weight!r}; expected a finite number.")
    with _adding(wrapped, name):
        config, tensors = plain_lora(mixed(wrapped, weights))
        lora = peft_config(config, plain_modules(wrapped.base_model.model))
        lora.base_model_name_or_path = wrapped.base_model.model.name_or_path
        wrapped.add_adapter(name, lora)
        _fill(wrapped, name, StoredAdapter(lora, tensors, Path(name)))


@contextmanager
def _adding(wrapped: PeftModel, name: str) -> Iterator[None]:
    """Check the name of a new adapter, undo a failure, and restore the active adapter and gradients."""
    check_name(wrapped, name)
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


def check_name(wrapped: PeftModel, name: str) -> None:
    """Raise AdaCLIPError unless `name` can name another adapter.

    torch reserves some names, such as "train". peft finds an adapter's tensors by a part of their names, so that the
    name of a module, such as "0", would leave tensors of the other adapters out when they are saved.
    """
    reserved = name == BASE or hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name)
    parts = {part for module, _ in wrapped.named_parameters() for part in module.split(".")}
    reserved |= name.startswith("lora_") or name in parts - wrapped.peft_config.keys()
    if name in wrapped.peft_config or reserved or not re.fullmatch(r"\w[\w-]*", name):
        taken = ", ".join(wrapped.peft_config)
        why = f"{name!r} is reserved" if reserved else "use letters, digits, _ and -"
        raise AdaCLIPError(f"{name!r} cannot name another adapter: {why}; taken: {taken}.")


def _check_ranks(stored: StoredAdapter) -> None:
    """Raise AdaCLIPError if the configuration's rank is far above the tensors', before peft makes such matrices."""
    ranks = [min(t.shape) for t in stored.tensors.values() if t.dim() == 2 and t.numel()]
    largest = max(stored.config.r, *stored.config.rank_pattern.values(), 1)
    if largest > max(ranks, default=0) and largest > LIKELY_RANK:
        raise AdaCLIPError(f"{stored.path}: its configuration has rank {largest}, no tensor has. Save it again.")


def _fill(wrapped: PeftModel, name: str, stored: StoredAdapter) -> None:
    """Copy the tensors into the adapter `name`, and check each of them."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    def held() -> dict[str, torch.Tensor]:
        return get_peft_model_state_dict(wrapped, adapter_name=name, save_embedding_layers=False)

    _compare(held(), stored.tensors, stored.path)
    set_peft_model_state_dict(wrapped, stored.tensors, adapter_name=name)
    for tensor, value in held().items():
        if not torch.equal(value.cpu(), stored.tensors[tensor].cpu().to(value.dtype)):
            raise AdaCLIPError(f"{stored.path}: tensor {tensor} did not reach the model. Please report this as a bug.")


def write_active(model: PeftModel, folder: Path) -> None:
    """Write the active adapter's weights and configuration as peft does, but always into `folder` itself."""
    active = model.active_adapter
    model.save_pretrained(str(folder), save_embedding_layers=False, selected_adapters=[active])
    _restore_patterns(model.peft_config[active], folder / active / CONFIG if active != "default" else folder / CONFIG)
    if (folder / active).is_dir():  # peft's place for adapters with a name other than "default"
        shutil.copytree(folder / active, folder, dirs_exist_ok=True)
        shutil.rmtree(folder / active)


def _restore_patterns(config: LoraConfig, path: Path) -> None:
    """Write the patterns of a loaded adapter as they were stored, not the names that they resolved to."""
    stored = getattr(config, "as_stored", None)
    if stored is not None:
        write_json(path, read_json(path) | {name: value for name, value in stored.items() if value is not None})


def saved_details(folder: Path) -> CardDetails:
    """Return the licence, data sets and metrics that an adapter folder records; empty if another program saved it."""
    try:
        return CardDetails.from_dict(settings_of(folder))
    except (ValueError, TypeError) as error:
        raise AdaCLIPError(f"{folder / SETTINGS}: {first_line(error)} Download or save the adapter again.") from error


def recorded_pooling(folder: Path) -> str | None:
    """Return the name of the pooling that an adapter records; None if another program saved it."""
    pooling = settings_of(folder).get("pooling")
    if pooling is not None and not isinstance(pooling, str):
        raise AdaCLIPError(f"{folder / SETTINGS}: pooling is {pooling!r}. Download or save the adapter again.")
    return pooling


def settings_of(place: Path) -> dict[str, Any]:
    """Return adaclip.json of an adapter folder; empty if another program saved the adapter."""
    path = place / SETTINGS
    try:
        return read_json(path) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise AdaCLIPError(f"{path}: {first_line(error)} Download or save the adapter again.") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _compare(expected: dict[str, torch.Tensor], stored: dict[str, torch.Tensor], path: Path) -> None:
    differing = {"missing": expected.keys() - stored.keys(), "unknown": stored.keys() - expected.keys()}
    if any(differing.values()):
        parts = [f"{len(names)} {what} (first: {min(names)})" for what, names in differing.items() if names]
        raise AdaCLIPError(f"{path}: {' and '.join(parts)} of {len(expected)} adapter tensors. {OTHER_BASE}")
    for name, tensor in expected.items():
        if stored[name].shape != tensor.shape:
            raise AdaCLIPError(
                f"{path}: tensor {name} has shape {tuple(stored[name].shape)}, the base needs {tuple(tensor.shape)}. "
                "The adapter was made for another base; pass the right base=."
            )
