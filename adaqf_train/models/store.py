"""Networks other than the generator, as folders: config.json, model.safetensors and the tokenizer they read with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, PreTrainedTokenizerBase

from adaclip import AdaCLIPError
from adaclip.files import atomic_folder, read_json, write_json
from adaqf_train.config import EvaluatorConfig, ExtractorConfig
from adaqf_train.models.extractors import Extractors
from adaqf_train.models.matcher import Matcher

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_clip(folder: Path, model: CLIPTextModelWithProjection, tokenizer: PreTrainedTokenizerBase) -> None:
    """A CLIP text model as a plain transformers folder."""
    with atomic_folder(folder) as staging:
        model.save_pretrained(staging)
        tokenizer.save_pretrained(staging)


def save_extractors(folder: Path, extractors: Extractors, features: int, config: ExtractorConfig, tokenizer) -> None:
    """Writes a pair of extractors; `load_extractors` reads it."""
    vocabulary, word_width = extractors.text.words.weight.shape
    shape = {"features": features, "vocabulary": vocabulary, "word_width": word_width}
    _save(folder, extractors, {**shape, "extractors": asdict(config)}, tokenizer)


def load_extractors(folder: Path) -> tuple[Extractors, PreTrainedTokenizerBase]:
    """The extractors of a folder and their tokenizer; AdaCLIPError when incomplete."""
    return _load(
        folder,
        lambda c: Extractors(c["features"], c["vocabulary"], c["word_width"], ExtractorConfig(**c["extractors"])),
    )


def save_evaluator(folder: Path, matcher: Matcher, features: int, config: EvaluatorConfig, tokenizer) -> None:
    """Writes an evaluator; `load_evaluator` reads it."""
    shape = {"features": features, "vocabulary": matcher.words.num_embeddings}
    _save(folder, matcher, {**shape, "evaluator": asdict(config)}, tokenizer)


def load_evaluator(folder: Path) -> tuple[Matcher, PreTrainedTokenizerBase]:
    """The evaluator of a folder and its tokenizer; AdaCLIPError when incomplete."""
    return _load(folder, lambda c: Matcher(c["features"], c["vocabulary"], EvaluatorConfig(**c["evaluator"])))


def _save(folder: Path, module: nn.Module, config: dict, tokenizer: PreTrainedTokenizerBase) -> None:
    with atomic_folder(folder) as staging:
        save_file({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, staging / WEIGHTS)
        write_json(staging / CONFIG, config)
        tokenizer.save_pretrained(staging)


def _load(folder: Path, build) -> tuple:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AdaCLIPError(f"{folder / name}: missing. Train it again or give another run.")
    try:
        module = build(read_json(folder / CONFIG))
        module.load_state_dict(load_file(folder / WEIGHTS))
        return module.eval(), CLIPTokenizer.from_pretrained(folder)
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise AdaCLIPError(f"{folder}: cannot be loaded ({error}). Train it again.") from error
