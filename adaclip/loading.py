"""Loading of bases: a text encoder of any family in `adaclip.towers`, its tokenizer and its pooling; all or nothing."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adaclip import openai_bases
from adaclip.adapter import TOKENIZER, first_line
from adaclip.bounds import check_base_folder, check_sizes, check_tokenizer_folder
from adaclip.config import AdaCLIPError
from adaclip.integrity import CHANGED, check_digests
from adaclip.text import cleans
from adaclip.towers import CLIP, Tower, tower_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from adaclip.hub import LoadOptions

M = TypeVar("M", bound="PreTrainedModel")

BYTES = 256  # CLIP's vocabulary has an entry for every byte, so a smaller one was not read
UNBOUNDED = 512  # tokens of a prompt if neither model nor tokenizer state a limit: T5's training length


def load_base(
    base: str, load: LoadOptions, *, tokenizer_folder: Path | None = None, pooling: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a text encoder, and its tokenizer (the adapter's own, if its folder has one).

    Args:
        base: Hub id or folder of a model of one of the families in `adaclip.towers`; or CLIP's weights as OpenAI's file
            or a folder of open_clip.
        load: Options of the base.
        tokenizer_folder: Folder of an adapter.
        pooling: Pooling that will be used, which may need a part that others do not; None: the default.

    Returns:
        The family's model of transformers (with CLIP's projection), with every tensor from the base; the tokenizer.

    Raises:
        AdaCLIPError: A tensor is missing or left over, a file is missing, or the two do not fit together.
    """
    tower = base_tower(base, load)
    model = _load_model(tower, base, load, pooling)
    if tokenizer_folder is not None and (tokenizer_folder / TOKENIZER).is_file():
        tokenizer = load_tokenizer(tokenizer_folder, None, tower)
    else:
        tokenizer = _base_tokenizer(base, load, tower)
    highest, rows = max(tokenizer.get_vocab().values()), model.config.vocab_size
    if highest >= rows:
        raise AdaCLIPError(
            f"{base}: the tokenizer has ids up to {highest}, the model embeds {rows}. "
            "The two are of different models: pass the right base=."
        )
    check_digests(Path(base), CHANGED)
    most = tower.most_tokens(model.config) or getattr(model.config, "n_positions", UNBOUNDED)
    tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return model, tokenizer


def _base_tokenizer(base: str, load: LoadOptions, tower: Tower) -> PreTrainedTokenizerBase:
    weights = openai_bases.weights_of(base)
    if weights is None:
        return load_tokenizer(base, load, tower)
    source = openai_bases.tokenizer_source(weights)
    return load_tokenizer(source, load, tower) if isinstance(source, str | Path) else source


def _load_model(tower: Tower, base: str, load: LoadOptions, pooling: str | None) -> PreTrainedModel:
    model, missing, extra = read_model(tower.classes[_model_type(base, load)], base, load)
    if tower is CLIP and missing == ["text_projection.weight"] and pooling == "pooler_output":
        model, missing, extra = read_model("CLIPTextModel", base, load)
    elif pooling != "pooler" and missing and all(name.startswith("pooler.") for name in missing):
        model.pooler, missing = None, []  # a layer that no other pooling uses, and that would be random
    if missing:
        hint = ""
        if missing == ["text_projection.weight"]:
            hint = " To use a base without a projection, pass pooling='pooler_output'."
        raise AdaCLIPError(f"{base}: {len(missing)} tensors of the text encoder are missing, first {missing[0]}.{hint}")
    extra = [name for name in extra if not re.fullmatch(tower.unread, name)]
    if extra:
        raise AdaCLIPError(
            f"{base}: {len(extra)} tensors have no place in {type(model).__name__}, first {extra[0]}. "
            "Its config.json is of another model, or the folder is not a whole plain model."
        )
    return model


def _model_type(base: str, load: LoadOptions) -> str:
    """Return the `model_type` of a base; CLIP's if its configuration cannot be read, so that loading reports why."""
    from transformers import PreTrainedConfig

    if openai_bases.weights_of(base) is not None:
        return "clip"
    check_base_folder(Path(base))
    try:
        config, _ = PreTrainedConfig.get_config_dict(base, **load.download())
    except (OSError, ValueError, RecursionError):
        return "clip"
    check_sizes(config, base)
    return str(config.get("model_type"))


def base_tower(base: str, load: LoadOptions) -> Tower:
    """Return the family of a base; raise AdaCLIPError if it is none of `adaclip.towers`."""
    try:
        return tower_for(_model_type(base, load))
    except ValueError as error:
        raise AdaCLIPError(f"{base}: {error}") from error


def load_clip(kind: type[M], base: str, load: LoadOptions) -> tuple[M, list[str]]:
    """Load a CLIP model of class `kind`; return it and the tensors that `base` lacks. Safetensors only."""
    model, missing, _ = read_model(kind.__name__, base, load)
    return model, missing


def read_model(kind: str, base: str, load: LoadOptions) -> tuple[Any, list[str], list[str]]:
    """Load a model of one of transformers' classes; return it, the tensors that `base` lacks, and those left over."""
    import transformers

    cls = getattr(transformers, kind)
    _model_type(base, load)  # which checks the sizes

    weights = openai_bases.weights_of(base)
    if weights is not None:
        config, state = openai_bases.read(weights, vision=kind == "CLIPModel")
        options = {"config": config, "state_dict": state, "dtype": load.dtype, "output_loading_info": True}
        with _quiet_loading():
            model, report = cls.from_pretrained(None, **options)
        model.name_or_path = base
        return model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"])

    def read(**changes: object) -> tuple[Any, list[str], list[str]]:
        options = {"dtype": load.dtype, "use_safetensors": True, "output_loading_info": True}
        model, report = cls.from_pretrained(base, **options, **(load.download() | changes))
        return model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"])

    try:
        try:
            with _quiet_loading():
                return read()
        except OSError:
            converted = _cached_conversion(base, load)
            if converted is None:
                raise
            config = cls.config_class.from_pretrained(base, **load.download())
            with _quiet_loading():
                return read(config=config, revision=converted, local_files_only=True)
    except MemoryError:
        raise
    except Exception as error:  # transformers raises many kinds for a forged configuration
        what = "CLIP model" if kind.startswith("CLIP") else "model"
        raise AdaCLIPError(
            f"The base {what} {base} cannot be loaded: {first_line(error)} "
            "Check the name, connect once so that it is cached, or pass base= with a local folder."
        ) from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep transformers from printing a table of all tensors that a model leaves over, such as a vision tower's.

    Callers get their names and those of missing ones, and decide which are an error. A filter, because transformers
    does more than printing at some levels of this logger.
    """
    logger = logging.getLogger("transformers.modeling_utils")

    def severe(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger.addFilter(severe)
    try:
        yield
    finally:
        logger.removeFilter(severe)


def _cached_conversion(base: str, load: LoadOptions) -> str | None:
    """Return the pull request, such as "refs/pr/3", whose safetensors of `base` are in the cache.

    For a repository with pickles only, such as OpenAI's, transformers reads safetensors from a pull request of the
    Hub's conversion bot. It searches the Hub for that request every time, which fails without a connection.
    """
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repos = scan_cache_dir(load.cache_dir).repos
    except (CacheNotFound, ValueError):
        return None
    revisions = [revision for repo in repos if repo.repo_id == base for revision in repo.revisions]
    with_weights = [r for r in revisions if any(file.file_name == "model.safetensors" for file in r.files)]
    return next((ref for r in with_weights for ref in sorted(r.refs) if ref.startswith("refs/pr/")), None)


def load_tokenizer(
    source: str | Path, load: LoadOptions | None = None, tower: Tower | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or Hub id, of CLIP's class for CLIP; raise AdaCLIPError if it is empty.

    Args:
        source: Folder or Hub id.
        load: Options of the download.
        tower: The family; None takes the class that the tokenizer's files name.
    """
    from transformers import AutoTokenizer, CLIPTokenizer

    check_tokenizer_folder(Path(source))
    try:
        options = load.download() if load else {}
        tokenizer = (CLIPTokenizer if tower is CLIP else AutoTokenizer).from_pretrained(str(source), **options)
        # transformers silently makes one of special tokens alone if the files are missing.
        least = BYTES if cleans(tokenizer) else len(set(tokenizer.all_special_ids)) + 2
        if len(tokenizer) < least:
            raise ValueError(f"it has {len(tokenizer)} entries, so its vocabulary is missing.")
        if cleans(tokenizer):
            _free_padding(tokenizer)
    except Exception as error:  # the tokenizers library raises plain Exception for a damaged file
        files = "tokenizer.json, or vocab.json and merges.txt" if tower is CLIP else "tokenizer.json"
        raise AdaCLIPError(
            f"The tokenizer of {source} cannot be loaded: {first_line(error)} "
            f"It needs {files}: download or save them again."
        ) from error
    return tokenizer


def _free_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Pad with the end token if the padding token is text that prompts contain.

    The tokenizers of SDXL's second encoder and of Stable Diffusion 2 pad with "!". As a special token it would replace
    the "!" of "jump!", which has another id.
    """
    pad = tokenizer.pad_token
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if pad in (None, tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token):
        return
    if pad not in backend["model"]["vocab"] or pad.startswith("<|"):
        return
    backend["added_tokens"] = [token for token in backend["added_tokens"] if token["content"] != pad]
    tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(backend))
    tokenizer.pad_token = tokenizer.eos_token
