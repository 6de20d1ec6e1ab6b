"""The files with which sentence-transformers describes pooling: read from bases, and written beside exports.

Format: `modules.json` of sentence-transformers lists modules with their folders: Transformer, Pooling, and at most one
Dense and one Normalize.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from adaclip.config import AdaCLIPError
from adaclip.files import parse_json, read_bytes, write_json
from adaclip.pooling import ACTIVATIONS, Pooling, family_pooling
from adaclip.towers import CLIP, SENTENCE, tower_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adaclip.hub import LoadOptions

MODULES, PROMPTS, LENGTH = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
POOLING, DENSE, NORMALIZE = "1_Pooling", "2_Dense", "3_Normalize"  # folders that are written
# Our pooling: the key of Pooling's configuration that selects it.
_MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
_LAST = "pooling_mode_lasttoken"  # CLIP's end token, where padding is on the right
TYPES = "sentence_transformers.models."


class UnknownError(AdaCLIPError):
    """Whether a base has a file is not known without a connection."""


def read_pooling(
    base: str, load: LoadOptions, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str | None
) -> Pooling:
    """Return the pooling of a base, and limit its tokenizer to the longest prompt that the base records.

    Args:
        base: Hub id or folder of the base.
        load: Options of the base.
        model: Its model.
        tokenizer: Its tokenizer.
        name: A pooling of its family, or "sentence"; None: "sentence" if the base records it, else the family's first.

    Raises:
        AdaCLIPError: The pooling is unknown, or what is recorded cannot be computed.
    """
    recorded = None
    if tower_for(model.config.model_type) is not CLIP:
        try:
            recorded = _read(base, MODULES, load)
        except UnknownError:
            if name in (None, SENTENCE):
                raise
    if recorded is not None:
        longest = (_read(base, LENGTH, load) or {}).get("max_seq_length")
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest or tokenizer.model_max_length)
    if name == SENTENCE or (name is None and recorded is not None):
        if recorded is None:
            raise AdaCLIPError(f"{base}: pooling 'sentence' needs the {MODULES} of sentence-transformers in the base.")
        return _recorded(base, load, model, tokenizer, recorded)
    try:
        return family_pooling(model, tokenizer, name)
    except ValueError as error:
        raise AdaCLIPError(f"{base}: {error}") from error


def _recorded(
    base: str, load: LoadOptions, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, modules: Any
) -> Pooling:
    """Build what modules.json lists."""
    plain = family_pooling(model, tokenizer)
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    folders = dict(zip(kinds, (module["path"] for module in modules), strict=True))
    wanted = [kind for kind in ("Transformer", "Pooling", "Dense", "Normalize") if kind in kinds]
    if kinds != wanted or wanted[:2] != ["Transformer", "Pooling"] or folders["Transformer"]:
        raise AdaCLIPError(
            f"{base}: {MODULES} lists {', '.join(kinds)}; AdaCLIP computes Transformer (in the folder itself), "
            f"Pooling, Dense and Normalize. Choose another pooling: {', '.join(plain.tower.poolings)}."
        )
    prompt = (_read(base, PROMPTS, load) or {}).get("default_prompt_name")
    if prompt is not None:
        raise AdaCLIPError(
            f"{base}: sentence-transformers puts its prompt {prompt!r} before every text, which AdaCLIP does not. "
            f"Choose another pooling: {', '.join(plain.tower.poolings)}."
        )
    config = _read(base, f"{folders['Pooling']}/config.json", load) or {}
    active = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    mode = str(config.get("pooling_mode") or next((mode for mode, key in _MODES.items() if active == [key]), active))
    if mode not in _MODES:
        raise AdaCLIPError(f"{base}: records the pooling {mode}; AdaCLIP computes {', '.join(_MODES)}.")
    dense, activation = _dense(base, folders["Dense"], load) if "Dense" in kinds else (None, "Identity")
    if dense is not None:
        dense = dense.to(model.dtype).requires_grad_(False)
    width = model.config.hidden_size if dense is None else dense.out_features
    unit = "Normalize" in kinds
    return Pooling(
        plain.tower, SENTENCE, width, plain.end_token_id, mode=mode, dense=dense, activation=activation, unit=unit
    )


def _dense(base: str, folder: str, load: LoadOptions) -> tuple[nn.Linear, str]:
    """Load a dense layer strictly; return it and the name of its activation."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config, weights = _read(base, f"{folder}/config.json", load), _find(base, f"{folder}/model.safetensors", load)
    activation = str((config or {}).get("activation_function")).rpartition(".")[2]
    if config is None or weights is None or activation not in ACTIVATIONS:
        raise AdaCLIPError(
            f"{base}: the dense layer in {folder} needs model.safetensors, and config.json with an "
            f"activation of {', '.join(ACTIVATIONS)}."
        )
    try:
        state = {name.removeprefix("linear."): value for name, value in load_file(weights).items()}
        if list(state["weight"].shape) != [config["out_features"], config["in_features"]]:
            raise ValueError("other sizes")
        layer = nn.Linear(config["in_features"], config["out_features"], config["bias"])
        layer.load_state_dict(state)
    except (RuntimeError, OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
        raise AdaCLIPError(f"{base}: the dense layer in {folder} does not fit its config.json.") from error
    return layer, activation


def write_sentence_files(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: Pooling
) -> None:
    """Write the files with which `SentenceTransformer(folder)` pools as `pooling` does, beside a model's.

    CLIP's pooling is the state of the last token, which is the end token, and its projection a dense layer.
    """
    from safetensors.torch import save_file

    width = model.config.hidden_size
    modes = {_MODES.get(pooling.mode, _LAST): True}
    write_json(folder / LENGTH, {"max_seq_length": tokenizer.model_max_length, "do_lower_case": False})
    modules = [("", "Transformer"), (POOLING, "Pooling")]
    (folder / POOLING).mkdir()
    write_json(
        folder / POOLING / "config.json",
        {"word_embedding_dimension": width, **dict.fromkeys((*_MODES.values(), _LAST), False), **modes},
    )
    dense = model.text_projection if pooling.mode == "text_embeds" else pooling.dense
    if dense is not None:
        (folder / DENSE).mkdir()
        sizes = {"in_features": dense.in_features, "out_features": dense.out_features, "bias": dense.bias is not None}
        kind = "activation.Tanh" if pooling.activation == "Tanh" else "linear.Identity"
        write_json(folder / DENSE / "config.json", sizes | {"activation_function": f"torch.nn.modules.{kind}"})
        state = {f"linear.{name}": value.detach().cpu().contiguous() for name, value in dense.state_dict().items()}
        save_file(state, folder / DENSE / "model.safetensors", metadata={"format": "pt"})
        modules.append((DENSE, "Dense"))
    if pooling.unit:
        modules.append((NORMALIZE, "Normalize"))
    listed = [{"idx": i, "name": str(i), "path": path, "type": TYPES + kind} for i, (path, kind) in enumerate(modules)]
    write_json(folder / MODULES, listed)


def _find(base: str, name: str, load: LoadOptions) -> Path | None:
    """Return the path of a base's file, downloaded if the base is on the Hub; None if the base certainly lacks it."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    if Path(base).exists():
        return Path(base, name) if Path(base, name).is_file() else None
    try:
        return Path(hf_hub_download(base, name, **load.download()))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        cached = try_to_load_from_cache(base, name, cache_dir=load.cache_dir, revision=load.revision)
        if cached is not None and not isinstance(cached, str):  # the cache records that the repository lacks it
            return None
        raise UnknownError(
            f"{base}: without a connection it is not known whether it has {name}, which records its pooling. Connect "
            "once so that it is cached, or pass pooling=, such as pooling='mean'."
        ) from error


def _read(base: str, name: str, load: LoadOptions) -> Any:
    path = _find(base, name, load)
    return None if path is None else parse_json(read_bytes(path), path)
