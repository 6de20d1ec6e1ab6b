"""adapter_config.json: the checks before peft reads it, and patterns resolved to names in bounded time."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import regex

from adaclip.config import AdaCLIPError
from adaclip.files import read_json

if TYPE_CHECKING:
    from peft import LoraConfig

CONFIG = "adapter_config.json"
LORA_RECORD = "lora_sha256"  # in adaclip.json
LARGEST_RANK = 4096
PATTERN_LENGTH, PATTERNS = 2000, 2000
PATTERN_SECONDS = 0.5  # of processor time, all patterns together; usual ones take a few milliseconds
_NUMBER = int | float
_REQUIRED = {"r": int, "lora_alpha": _NUMBER, "base_model_name_or_path": str | None}
_OPTIONAL = {
    "lora_dropout": _NUMBER,
    "use_rslora": bool,
    "use_dora": bool,
    "lora_bias": bool,
    "fan_in_fan_out": bool,
    "bias": str,
    "init_lora_weights": bool | str,
    "rank_pattern": dict,
    "alpha_pattern": dict,
    "target_modules": str | list,
    "exclude_modules": str | list,
    "modules_to_save": list,
    "layers_to_transform": int | list,
    "layers_pattern": str | list,
    "task_type": str,
    "revision": str,
}
_PATTERNS = (
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
)
# Fields without an effect on the vectors of a loaded adapter.
_WITHOUT_EFFECT = {"peft_type", "peft_version", "auto_mapping", "inference_mode", "runtime_config", "unsloth_fixed"}
_WITHOUT_EFFECT |= {"megatron_core", "qalora_group_size", "ensure_weight_tying", "corda_config", "eva_config"}
_WITHOUT_EFFECT |= {"loftq_config", "lora_ga_config"}
# Ways to initialise: stored matrices replace these values. PiSSA and OLoRA also change the base; see `factors`.
PLAIN_INITS = (True, False, "gaussian", "eva", "orthogonal")
RESIDUAL_INITS = ("pissa", "olora")
_REMEDY = "Merge it into its base with peft (merge_and_unload) and use the result as base, or train it without."
_AGAIN = "Download or save the adapter again."


def adapter_config(folder: Path) -> dict:
    """Read adapter_config.json and check it; raise AdaCLIPError if it is damaged or needs more than is supported."""
    path = folder / CONFIG
    try:
        config = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise AdaCLIPError(f"{error} {_AGAIN}") from error
    if config.get("peft_type") != "LORA":
        raise AdaCLIPError(f"{path}: expected the configuration of a LoRA adapter (peft_type LORA).")
    for name, kind in (_REQUIRED | _OPTIONAL).items():
        value = config.get(name)
        absent = value is None and name in _OPTIONAL
        if not absent and (not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, _NUMBER))):
            raise AdaCLIPError(f"{path}: {name} is {value!r:.60}. {_AGAIN}")
    for name in ("lora_alpha", "lora_dropout"):
        _check_finite(path, name, config.get(name, 0) or 0)
    _check_rank(path, "r", config["r"])
    for name, check in (("rank_pattern", _check_rank), ("alpha_pattern", _check_finite)):
        for pattern, value in (config.get(name) or {}).items():
            check(path, f"{name} of {pattern:.60}", value)
    _check_supported(path, config)
    return config


def _check_supported(path: Path, config: Mapping[str, object]) -> None:
    """Raise AdaCLIPError for a feature that would give other vectors, or change the base for other adapters."""
    if config.get("bias", "none") not in ("none", None):
        raise AdaCLIPError(f"{path}: bias is {config['bias']!r}: this adapter replaces biases of the base. {_REMEDY}")
    init = _init(config)
    if init not in (*PLAIN_INITS, *RESIDUAL_INITS):
        raise AdaCLIPError(
            f"{path}: init_lora_weights is {init!r:.60}, which changes the base in a way that cannot be repeated here. "
            "Save it again with peft's path_initial_model_for_weight_conversion, which writes plain LoRA."
        )
    if init in RESIDUAL_INITS and (config.get("use_dora") or config.get("lora_bias")):
        raise AdaCLIPError(f"{path}: init_lora_weights {init!r} together with DoRA or lora_bias is not read. {_REMEDY}")
    known = {*_REQUIRED, *_OPTIONAL, *_WITHOUT_EFFECT}
    for name in sorted(config.keys() - known):
        if config[name]:
            raise AdaCLIPError(f"{path}: {name} is {config[name]!r:.60}, which AdaCLIP does not support. {_REMEDY}")
    names = config.get("modules_to_save") or []
    if not all(isinstance(name, str) and regex.fullmatch(r"[\w.]+", name) for name in names):
        raise AdaCLIPError(f"{path}: modules_to_save is {names!r:.60}: expected names of modules. {_AGAIN}")


def _init(config: Mapping[str, object]) -> object:
    init = config.get("init_lora_weights", True)
    return init.lower() if isinstance(init, str) else True if init is None else init


def lora_digest(config: Mapping[str, object]) -> str:
    """Return a SHA-256 of the fields that the vectors depend on, which an edit of the base's name leaves as it is."""
    fields = (_REQUIRED | _OPTIONAL).keys() - {"base_model_name_or_path", "task_type", "revision", "lora_dropout"}
    kept = {name: config[name] for name in sorted(fields) if config.get(name)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def check_lora_digest(config: Mapping[str, object], record: object, path: Path) -> None:
    """Raise AdaCLIPError if an adapter's configuration is not the recorded one (None: by an earlier version)."""
    if record is not None and record != lora_digest(config):
        raise AdaCLIPError(
            f"{path}: changed since it was saved: rank, scale or modules are not the recorded ones. Download or save "
            f"it again, or delete {LORA_RECORD} in adaclip.json and digests.json if you changed it on purpose."
        )


def residual_init(config: Mapping[str, object]) -> str | None:
    """Return "pissa" or "olora" if the adapter is the change of a base from which its initial values were taken."""
    init = _init(config)
    return str(init) if init in RESIDUAL_INITS else None


def _check_finite(path: Path, name: str, value: object) -> None:
    if not isinstance(value, _NUMBER) or isinstance(value, bool) or not math.isfinite(value):
        raise AdaCLIPError(f"{path}: {name} is {value!r:.60}; expected a finite number. {_AGAIN}")


def _check_rank(path: Path, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_RANK:
        raise AdaCLIPError(f"{path}: {name} is {value!r:.60}; expected a rank from 1 to {LARGEST_RANK}. {_AGAIN}")


def peft_config(stored: Mapping[str, object], modules: Iterable[str]) -> LoraConfig:
    """Return peft's configuration with patterns resolved to the names of `modules`.

    peft would run patterns out of a file with `re`, which takes hours for some of them. The patterns as stored stay on
    the result (`as_stored`), so that saving the adapter writes them again.
    """
    from peft import LoraConfig

    modules, budget = list(modules), _Budget()
    fields = {name: value for name, value in stored.items() if name in (_REQUIRED | _OPTIONAL) and value is not None}
    fields.pop("revision", None)  # of the base
    targets = fields.get("target_modules")
    if targets != "all-linear":
        fields["target_modules"] = [m for m in modules if _is_target(fields, m, budget)]
        if not fields["target_modules"]:
            raise ValueError(f"none of its modules is named by target_modules {targets!r:.200}.")
        for name in ("exclude_modules", "layers_to_transform", "layers_pattern"):
            fields.pop(name, None)
    elif any(fields.get(name) for name in ("exclude_modules", "layers_to_transform", "layers_pattern")):
        raise ValueError("target_modules 'all-linear' goes without exclude_modules and layers_to_transform.")
    # `task_type` FEATURE_EXTRACTION would break CLIP's forward; AdaCLIP itself sets which parameters require gradients.
    fields |= {"task_type": None, "inference_mode": False, "init_lora_weights": True}
    adapted = modules if targets == "all-linear" else fields["target_modules"]
    if isinstance(targets, str) and targets != "all-linear":  # peft combines texts with texts only
        fields["target_modules"] = "|".join(map(re.escape, adapted))
    for name in ("rank_pattern", "alpha_pattern"):
        found = {module: _by_pattern(stored.get(name) or {}, module, budget) for module in adapted}
        fields[name] = {module: value for module, value in found.items() if value is not None}
    config = LoraConfig(**fields)
    config.as_stored = {name: stored.get(name) for name in _PATTERNS}  # type: ignore[attr-defined]
    return config


class _Budget:
    """Time that the patterns of one adapter may take together."""

    def __init__(self) -> None:
        self._end = time.process_time() + PATTERN_SECONDS

    def matches(self, pattern: str, name: str) -> bool:
        """Tell whether the whole name matches; raise ValueError for a pattern that is too long or too slow."""
        if not isinstance(pattern, str) or len(pattern) > PATTERN_LENGTH:
            raise ValueError(f"the pattern {pattern!r:.60} has over {PATTERN_LENGTH} characters or is no text.")
        try:
            return regex.fullmatch(pattern, name, timeout=max(1e-3, self._end - time.process_time())) is not None
        except TimeoutError:
            raise ValueError(f"its patterns take over {PATTERN_SECONDS:g} s ({pattern!r:.60}): name modules.") from None
        except (regex.error, RecursionError) as error:
            raise ValueError(f"the pattern {pattern!r:.60} is not valid: {error}.") from error


def _by_pattern(values: Mapping[str, object], module: str, budget: _Budget) -> object | None:
    """Return the value whose name or pattern fits the end of a module's name, as peft chooses it."""
    if module in values:
        return values[module]
    if len(values) > PATTERNS:
        raise ValueError(f"{len(values)} entries in rank_pattern or alpha_pattern; at most {PATTERNS} are read.")
    return next((v for pattern, v in values.items() if budget.matches(rf"(.*\.)?(?:{pattern})", module)), None)


def _is_target(fields: Mapping[str, object], module: str, budget: _Budget) -> bool:
    """Tell whether peft would adapt a module: by name, by the end of its name, or by one pattern."""

    def fits(wanted: object) -> bool:
        if isinstance(wanted, str):
            return budget.matches(wanted, module)
        return any(module == name or module.endswith(f".{name}") for name in wanted or ())  # type: ignore[attr-defined]

    if fits(fields.get("exclude_modules") or ()) or fits(fields.get("modules_to_save") or ()):
        return False
    targets = fields.get("target_modules")
    layers = fields.get("layers_to_transform")
    if not fits(targets) or isinstance(targets, str) or layers in (None, []):
        return fits(targets)
    patterns = fields.get("layers_pattern") or r"[^.]*"
    patterns = [patterns] if isinstance(patterns, str) else patterns
    parts = module.split(".")
    # The first number below a part that fits the pattern is the layer's.
    for position, part in enumerate(parts[:-1]):
        if parts[position + 1].isdecimal() and any(budget.matches(p, part) for p in patterns):  # type: ignore[attr-defined]
            return int(parts[position + 1]) in (layers if isinstance(layers, list) else [layers])
    return False
