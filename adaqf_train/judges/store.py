"""Judges as folders: config.json, model.safetensors and the tokenizer that they read with.

An evaluator's folder also holds the statistics that it normalises motions with, and a fingerprint of everything.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from adaclip.files import atomic_folder, read_json, write_json
from adaclip.integrity import write_digests
from adaclip.loading import load_tokenizer
from adaclip.packaged import packaged
from adaqf_train.artefacts import CONFIG, POCKET, WEIGHTS, load_network, read_tensors, reading, write_network
from adaqf_train.config import EvaluatorConfig, ExtractorConfig, JointEvaluatorConfig
from adaqf_train.errors import ArtefactError
from adaqf_train.judges.extractors import Extractors
from adaqf_train.judges.joints import JointMatcher
from adaqf_train.judges.matcher import Matcher

TOKENIZER = "tokenizer.json"
STATISTICS, FINGERPRINT = "statistics.safetensors", "fingerprint.json"  # of an evaluator


def save_extractors(folder: Path, extractors: Extractors, features: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Writes a pair of extractors; `load_extractors` reads it."""
    vocabulary, word_width = extractors.text.words.weight.shape
    shape = {"features": features, "vocabulary": vocabulary, "word_width": word_width}
    with atomic_folder(folder) as staging:
        write_network(staging, extractors, {**shape, "extractors": asdict(extractors.config)})
        tokenizer.save_pretrained(staging)
        write_digests(staging)


def load_extractors(folder: Path) -> tuple[Extractors, PreTrainedTokenizerBase]:
    """The extractors of a folder and their tokenizer; ArtefactError when incomplete."""
    extractors = load_network(
        folder,
        lambda c: Extractors(c["features"], c["vocabulary"], c["word_width"], ExtractorConfig(**c["extractors"])),
        (TOKENIZER,),
    )
    return extractors, _tokenizer(folder)


def save_evaluator(
    folder: Path,
    matcher: Matcher | JointMatcher,
    statistics: tuple[np.ndarray, np.ndarray],
    tokenizer: PreTrainedTokenizerBase,
    *,
    half: bool = False,
) -> None:
    """Writes an evaluator of either kind with the mean and deviation (D,) of its data, and its fingerprint.

    half: parameters in half precision; `load_evaluator` computes in single precision.
    """
    mean, std = (torch.from_numpy(np.array(part, dtype=np.float32)) for part in statistics)
    shape = {"features": len(mean), "vocabulary": matcher.words.num_embeddings}
    with atomic_folder(folder) as staging:
        save_file({"mean": mean, "std": std}, staging / STATISTICS)
        kind = "evaluator" if isinstance(matcher, Matcher) else "joint_evaluator"
        write_network(staging, matcher, {**shape, kind: asdict(matcher.config)}, half=half)
        tokenizer.save_pretrained(staging)
        write_json(staging / FINGERPRINT, {"sha256": _hash_of(staging)})
        write_digests(staging)


def load_evaluator(
    folder: Path,
) -> tuple[Matcher | JointMatcher, PreTrainedTokenizerBase, tuple[np.ndarray, np.ndarray]]:
    """The evaluator of a folder, its tokenizer and statistics (D,); ArtefactError unless all match its fingerprint."""
    with reading(folder, (CONFIG, WEIGHTS, TOKENIZER, STATISTICS)):
        fingerprint_of(folder)
    matcher = load_network(folder, _evaluator_of)
    tokenizer = _tokenizer(folder)
    statistics = read_tensors(folder / STATISTICS)
    return matcher, tokenizer, (statistics["mean"].numpy(), statistics["std"].numpy())


def located(evaluator: str | Path) -> Path:
    """The folder of an evaluator or of a run; of the packaged evaluator, by its name."""
    return packaged(evaluator, POCKET) or Path(evaluator)


def _evaluator_of(config: dict) -> Matcher | JointMatcher:
    """An untrained evaluator of the kind and size that a config.json states."""
    features, vocabulary = config["features"], config["vocabulary"]
    if "joint_evaluator" in config:
        settings = JointEvaluatorConfig(**config["joint_evaluator"])
        return JointMatcher(np.zeros(features), np.ones(features), vocabulary, settings)
    return Matcher(features, vocabulary, EvaluatorConfig(**config["evaluator"]))


def fingerprint_of(folder: Path) -> str:
    """The SHA-256 recorded beside an evaluator; ArtefactError when it is missing or the files differ from it."""
    if not (folder / FINGERPRINT).is_file():
        raise ArtefactError(f"{folder / FINGERPRINT}: missing. Train the evaluator again or give another run.")
    recorded, found = read_json(folder / FINGERPRINT).get("sha256"), _hash_of(folder)
    if recorded != found:
        raise ArtefactError(f"{folder}: its files do not match {FINGERPRINT}. Restore them, or train it again.")
    return found


def _hash_of(folder: Path) -> str:
    """SHA-256 of everything that an evaluator's figures depend on: weights, settings, statistics, vocabulary."""
    hasher = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, STATISTICS, TOKENIZER):
        content = (folder / name).read_bytes()
        hasher.update(f"{name} {len(content)}\n".encode() + content)
    return hasher.hexdigest()


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    with reading(folder, (TOKENIZER,)):
        return load_tokenizer(folder)
