"""Tensors of adapter files: peft's, those of whole CLIP models, and the LoRA files of kohya's scripts and diffusers."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from adaclip.config import AdaCLIPError
from adaclip.factors import PREFIX, Factor
from adaclip.files import read_json, write_json
from adaclip.lora_config import CONFIG

WEIGHTS = "adapter_model.safetensors"
DIFFUSERS = "pytorch_lora_weights.safetensors"  # diffusers' name for a LoRA file
TENSORS = 20_000  # more than any text encoder has
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Text encoders in files of kohya's scripts and of diffusers; SDXL has two, SD 3 three.
_ENCODER = re.compile(r"(?:(lora_te\d?)_|(text_encoder(?:_\d)?)\.|(?=text_model\.))")
_OTHER_NETWORKS = re.compile(r"lora_unet_|unet\.|transformer\.|lora_transformer_")
_PART = re.compile(
    r"\.(?:(?P<down>lora_down\.weight|lora_A(?:\.default)?\.weight|lora_linear_layer\.down\.weight|lora\.down\.weight)"
    r"|(?P<up>lora_up\.weight|lora_B(?:\.default)?\.weight|lora_linear_layer\.up\.weight|lora\.up\.weight)|(?P<alpha>alpha))$"
)
# diffusers before 0.22: `self_attn.to_q_lora.down.weight`
_OLD = re.compile(r"\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
_VISION = ("vision_model.", "visual_projection.")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of an adapter folder under their own names; raise AdaCLIPError if they are damaged."""
    return read_tensors(folder / WEIGHTS)[0]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file; raise AdaCLIPError if it is damaged.

    Every tensor is finite and of a floating-point type that torch computes with.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            if len(names) > TENSORS:
                raise AdaCLIPError(f"{path}: {len(names)} tensors; an adapter has at most {TENSORS}.")
            stored = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise AdaCLIPError(f"{path}: not a readable safetensors file ({error}). Download or save it again.") from error
    for name, tensor in stored.items():
        if tensor.dtype not in DTYPES:
            raise AdaCLIPError(
                f"{path}: tensor {name} has type {str(tensor.dtype).removeprefix('torch.')}; adapters are read in "
                "float32, float16, bfloat16 or float64. Save it in one of these."
            )
        if not tensor.isfinite().all():
            raise AdaCLIPError(
                f"{path}: tensor {name} holds NaN or infinity, so its training diverged or the file is damaged. "
                "Use an earlier checkpoint, or download it again."
            )
    return stored, metadata


def under_names_of(modules: Mapping[str, object], stored: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return peft's tensors under the names of a model's modules.

    transformers 5.6 flattened CLIPTextModel: its adapters have tensors `encoder.…` instead of `text_model.encoder.…`,
    of which peft would load none, with a warning. Adapters of a whole CLIPModel also adapt the vision tower: its
    tensors are left out, with a warning.
    """
    found: dict[str, Tensor] = {}
    vision = []
    for name, tensor in stored.items():
        bare = name.removeprefix(PREFIX)
        if bare.startswith(_VISION) and not any(module.startswith(_VISION) for module in modules):
            vision.append(name)
            continue
        ways = (bare, f"text_model.{bare}", bare.removeprefix("text_model."))
        fitting = next((way for way in ways if _holder(way, modules)), bare)
        found[PREFIX + fitting if name.startswith(PREFIX) else name] = tensor
    if vision and not found:
        raise AdaCLIPError(f"{path}: it adapts the vision tower only ({vision[0]}); AdaCLIP encodes text.")
    if vision:
        warnings.warn(f"{path}: {len(vision)} tensors of the vision tower are left out.", stacklevel=2)
    return found


def flatten(folder: Path) -> None:
    """Rename the tensors of an adapter folder from CLIPTextModelWithProjection's names to CLIPTextModel's."""
    from safetensors.torch import save_file

    nested = f"{PREFIX}text_model."
    tensors = read_weights(folder)
    other = next((name for name in tensors if not name.startswith(nested)), None)
    if other is not None:
        raise AdaCLIPError(f"{other}: CLIPTextModel has no place for this tensor, so no flat adapter can be written.")
    flat = {PREFIX + name.removeprefix(nested): tensor for name, tensor in tensors.items()}
    save_file(flat, folder / WEIGHTS, metadata={"format": "pt"})
    config = read_json(folder / CONFIG)
    for name in ("rank_pattern", "alpha_pattern"):
        config[name] = {_flat_pattern(key): value for key, value in (config.get(name) or {}).items()}
    targets = config["target_modules"]
    config["target_modules"] = _flat_pattern(targets) if isinstance(targets, str) else [*map(_flat_pattern, targets)]
    config["auto_mapping"] = {**(config.get("auto_mapping") or {}), "base_model_class": "CLIPTextModel"}
    write_json(folder / CONFIG, config)


def _flat_pattern(pattern: str) -> str:
    return re.sub(r"text_model\\?\.", "", pattern)


def _holder(name: str, modules: Mapping[str, object]) -> str | None:
    """Return the module of a tensor: of LoRA the adapted one, otherwise the one that has the tensor."""
    module = name.partition(".lora_")[0] if ".lora_" in name else name.rpartition(".")[0]
    return module if module in modules else None


def other_tools(
    path: Path, stored: Mapping[str, Tensor], metadata: Mapping[str, str], weights: Mapping[str, Tensor]
) -> dict[str, list[Factor]]:
    """Return the changes that a LoRA file of kohya's scripts or of diffusers makes to a text encoder.

    Args:
        path: The file, for messages.
        stored: Its tensors.
        metadata: Its metadata, in which newer versions of diffusers keep alpha.
        weights: Weights (out, in) of the text encoder's linear modules, by name.

    Returns:
        The factors of each changed module. Tensors of other networks are left out with a warning.

    Raises:
        AdaCLIPError: A tensor is of an unknown kind, such as LoHa or DoRA, or no text encoder in the file fits.
    """
    encoders: dict[str, dict[str, dict[str, Tensor]]] = {}
    others = []
    for name, tensor in stored.items():
        start = _ENCODER.match(name)
        if start is None and _OTHER_NETWORKS.match(name):
            others.append(name)
            continue
        rest = _OLD.sub(lambda m: f".{m[1]}_proj.lora.{m[2]}.weight", name)
        part = _PART.search(rest)
        if start is None or part is None or part.lastgroup is None:
            raise AdaCLIPError(
                f"{path}: tensor {name} is of no kind that can be converted (LoRA of linear modules in the files of "
                "kohya's scripts, diffusers or peft). Convert the file to peft's format with the tool that made it."
            )
        encoder = start[1] or start[2] or ""
        module = rest[start.end() : part.start()]
        encoders.setdefault(encoder, {}).setdefault(module, {})[part.lastgroup] = tensor
    if not encoders:
        raise AdaCLIPError(f"{path}: it adapts no text encoder ({len(others)} tensors, first {others[0]!r:.80}).")
    fitting, misfits = {}, []
    for encoder, parts in encoders.items():
        try:
            fitting[encoder] = _factors(parts, encoder, _Scales(metadata, encoder), weights)
        except ValueError as error:
            misfits.append(f"{encoder or 'its text encoder'}: {error}")
    if len(fitting) != 1:
        why = "; ".join(misfits) or f"{' and '.join(fitting)} both fit this base"
        raise AdaCLIPError(f"{path}: the file does not fit the base ({why}). Pass the right base=.")
    left = [*others, *(f"of {name}" for name in encoders if name not in fitting)]
    if left:
        warnings.warn(f"{path}: left out are {len(others)} tensors of other networks"
                      f"{''.join(f', {name}' for name in left[len(others):])}.", stacklevel=2)  # fmt: skip
    return next(iter(fitting.values()))


class _Scales:
    """Scale of each module's change in a file without `alpha` tensors."""

    def __init__(self, metadata: Mapping[str, str], encoder: str) -> None:
        try:
            kept = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except (ValueError, RecursionError):
            kept = {}
        start = f"{encoder}."
        self._fields = {k.removeprefix(start): v for k, v in kept.items() if k.startswith(start)} if encoder else {}

    def of(self, module: str, rank: int) -> float:
        """Return alpha / rank (diffusers' default: 1)."""
        patterns = self._fields.get("alpha_pattern") or {}
        given = next((v for name, v in patterns.items() if f".{module}".endswith(f".{name.lstrip('^')}")), None)
        alpha = self._fields.get("lora_alpha", rank) if given is None else given
        if not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ValueError(f"lora_alpha of {module} is {alpha!r:.40}")
        return alpha / (math.sqrt(rank) if self._fields.get("use_rslora") else rank)


def _factors(
    parts: Mapping[str, Mapping[str, Tensor]], encoder: str, scales: _Scales, weights: Mapping[str, Tensor]
) -> dict[str, list[Factor]]:
    """Return the factors of one text encoder; raise ValueError if a module is unknown or of another shape."""
    flat = encoder.startswith("lora_te")
    names = {(name.replace(".", "_") if flat else name): name for name in weights}
    changes = {}
    for stored, tensors in parts.items():
        module = next((names[way] for way in (stored, stored.removeprefix("text_model.")) if way in names), None)
        if module is None:
            raise ValueError(f"the base has no linear module {stored}")
        if not {"down", "up"} <= tensors.keys():
            raise ValueError(f"{stored} lacks one of its two matrices")
        down, up = (tensors[part].float().flatten(1) for part in ("down", "up"))
        rows, columns = weights[module].shape
        if down.shape[1] != columns or up.shape != (rows, len(down)):
            raise ValueError(
                f"{stored} changes a matrix of {up.shape[0]} × {down.shape[1]}, the base has {rows} × {columns}"
            )
        rank = len(down)
        scale = float(tensors["alpha"]) / rank if "alpha" in tensors else scales.of(module, rank)
        changes[module] = [Factor(down, scale * up)]
    return changes
