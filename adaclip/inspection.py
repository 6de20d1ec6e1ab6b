"""Descriptions and comparisons of adapters for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from adaclip import hub
from adaclip.adapter import saved_details
from adaclip.config import AdaCLIPError
from adaclip.lora_config import adapter_config
from adaclip.lora_files import WEIGHTS, read_weights


def describe(repo_or_path: str, revision: str | None = None, subfolder: str = "") -> dict[str, str]:
    """Return facts about an adapter from its files; raise AdaCLIPError if they are damaged."""
    folder = hub.resolve_adapter(repo_or_path, hub.LoadOptions(revision=revision, subfolder=subfolder))
    if folder.is_file():
        raise AdaCLIPError(
            f"{folder}: a LoRA file of another program, which has no such record. Load and save it first."
        )
    config, details, tensors = adapter_config(folder), saved_details(folder), read_weights(folder)
    layers = {name.rpartition(".lora_")[0] for name in tensors}
    modules = dict.fromkeys(name.rpartition(".")[2] for name in sorted(layers))
    size, numbers = (folder / WEIGHTS).stat().st_size, sum(t.numel() for t in tensors.values())
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values()})
    return {
        "adapter": repo_or_path,
        "base": str(config.get("base_model_name_or_path") or "not recorded"),
        "rank": f"{config['r']} (alpha {config['lora_alpha']}, dropout {config.get('lora_dropout', 0)})",
        "adapts": f"{', '.join(modules)} in {len(layers)} places",
        "tensors": f"{len(tensors)} ({', '.join(dtypes)}), {numbers:,} parameters",
        "size": f"{size:,} bytes",
        "licence": details.license or "not stated",
        "data sets": ", ".join(details.datasets) or "not stated",
        "metrics": ", ".join(f"{name} {value:g}" for name, value in details.metrics.items()) or "none recorded",
    }


def compare(adapters: Sequence[str], pairs: Sequence[tuple[str, ...]], base: str | None = None) -> str:
    """Return a table of cosine similarities of prompt pairs under the base and each adapter.

    Kept geometry is the correlation between similarities under the base and under the adapter, over all pairs of the
    prompts (1: the same neighbours at the same relative distances). Drift is the mean cosine distance between a
    prompt's vectors under the base and under the adapter.
    """
    from adaclip.model import AdaCLIP

    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    encoder = AdaCLIP.from_pretrained(adapters[0], base=base)
    for number, name in enumerate(adapters[1:], 2):
        encoder.load_adapter(name, f"adapter{number}", check_base=base is None)
    with encoder.disable_adapter():
        vectors = [encoder.encode(texts, normalize=True)]
    vectors += [encoder.encode(texts, normalize=True, adapter=name) for name in encoder.adapters]
    short = [Path(name).name or name for name in adapters]
    rows = [("cosine similarity", "base", *(short if len(set(short)) == len(short) else adapters))]
    for a, b in pairs:
        rows.append((f"{a} | {b}", *(f"{float(v[texts.index(a)] @ v[texts.index(b)]):.3f}" for v in vectors)))
    for name, measure in (("kept geometry (correlation)", _correlation), ("drift (cosine distance)", _drift)):
        rows.append((name, *(f"{measure(vectors[0], v):.3f}" for v in vectors)))
    first, *others = (max(7, *map(len, column)) for column in zip(*rows, strict=True))
    lines = [[f"{row[0]:<{first}}", *(f"{c:>{w}}" for c, w in zip(row[1:], others, strict=True))] for row in rows]
    return "\n".join(map("  ".join, lines))


def _correlation(before: Tensor, after: Tensor) -> float:
    """Return the correlation of the similarities of every two rows, (N, P) both; nan for fewer than three rows."""
    upper = torch.triu_indices(len(before), len(before), 1)
    similarities = torch.stack([(v @ v.T)[upper[0], upper[1]] for v in (before, after)])
    return float(torch.corrcoef(similarities)[0, 1]) if similarities.shape[1] > 1 else float("nan")


def _drift(before: Tensor, after: Tensor) -> float:
    return float(1 - nn.functional.cosine_similarity(before, after).mean())
