"""The manifest of an evaluation: everything that its figures depend on, and how long they took."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from adaqf_train.config import RunConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation.attributes.parameters import is_unseen
from adaqf_train.evaluation.embedder import Embedder

PACKAGES = ("adaclip", "torch", "transformers", "peft", "accelerate", "diffusers", "numpy", "tokenizers", "safetensors")
SEEDED = ("training", "extractors", "evaluator", "joint_evaluator", "evaluation")  # settings with a seed


def manifest(
    config: RunConfig,
    dataset: MotionDataset,
    counts: Mapping[str, object],
    *,
    hashes: Mapping[str, object],
    seconds: Mapping[str, Mapping[str, float]],
    judge: Embedder,
) -> dict[str, object]:
    """Collect what `report.json` holds beside its rows. counts: see `protocol.sample_counts`.

    hashes: "evaluator", "extractors" and "official" (None: not used), and "models": {row: hash of its weights, or of
    the motions that were scored}. seconds: wall time, {"stages": {name: seconds}, "rows": {name: seconds}}. judge: the
    independent evaluator.
    """
    return {
        **counts,
        "split": dataset.split,
        "guidance_rule": config.evaluation.choose if config.evaluation.guidances else "none",
        "skeleton": dataset.skeleton.name,
        "data_fingerprint": dataset.fingerprint(),
        "data": data_counts(dataset),
        **hashes,
        "embedding": judge.width,
        "seeds": {part: getattr(config, part).seed for part in SEEDED},
        "sampler": asdict(config.sampling) | {"seed": "evaluation.seed, replication, number of the prompt"},
        "batches": {
            "order": "numpy default_rng([seed, replication]): a permutation of the split's items, then captions, "
            "then crops",
            "pools": "consecutive rows of that order; the incomplete last pool is dropped",
            "sampling": config.sampling.batch,
            "embedding": judge.batch,
        },
        "seconds": dict(seconds),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "config": asdict(config),
    }


def data_counts(dataset: MotionDataset) -> dict[str, int]:
    """Count clips, items (clips and captioned parts), captions, and items of unseen combinations."""
    return {
        "clips": len({item.key.partition("#")[0] for item in dataset.items}),
        "items": len(dataset),
        "captions": len(dataset.captions()),
        "unseen_items": sum(bool(actions) and is_unseen(actions) for actions in map(dataset.parameters, dataset.items)),
    }


def hash_of_files(paths: Iterable[Path]) -> str:
    """Return a short hash of the contents of files, in the given order; their paths do not count."""
    hasher = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: hasher)  # updates the hash
    return hasher.hexdigest()[:16]


def hash_of_weights(folder: Path) -> str:
    """Return a short hash of a model's weights, at any depth in its folder."""
    return hash_of_files(sorted(folder.rglob("*.safetensors")))


def hash_of_motions(captions: Sequence[str], motions: Sequence[np.ndarray]) -> str:
    """Return a short hash of captions and motions."""
    hasher = hashlib.sha256()
    for caption, motion in zip(captions, motions, strict=True):
        hasher.update(f"{caption}\n{motion.shape}".encode())
        hasher.update(np.ascontiguousarray(motion).tobytes())
    return hasher.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a package in a checkout, or an optional one
        return "not installed"
