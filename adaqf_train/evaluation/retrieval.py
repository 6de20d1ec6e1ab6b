"""How well texts retrieve their motions, and motions their texts (Table 8; protocol of TMR, Petrovich et al. 2023)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation.embedder import Embedder, embed_pairs
from adaqf_train.evaluation.metrics import pairs_of, pooled_ranks
from adaqf_train.evaluation.protocol import Row, draw, replicated

TOPS = (1, 2, 3, 5, 10)
_FILLERS = {"a", "an", "the", "is", "are", "and"}
JUDGES = {
    "extractors": "the feedback's extractors",
    "evaluator": "the independent evaluator",
    "official": "the official evaluators",
}
# name in the report -> whether candidates are a pool (else the whole split), whether equivalent captions count as right
SETS = {"pools": (True, False), "pools_merged": (True, True), "whole": (False, False), "whole_merged": (False, True)}
DIRECTIONS = {"text_to_motion": "T→M", "motion_to_text": "M→T"}


def retrieval(
    text: np.ndarray, motion: np.ndarray, *, pool: int | None = None, groups: Sequence[int] | None = None
) -> dict[str, dict[str, float]]:
    """Compute recall at k and the median rank in both directions, by Euclidean distance.

    text, motion: (N, E), rows are pairs. A query shares a pool of consecutive rows with its candidates; the incomplete
    last pool is dropped. Without `pool` the candidates are the whole set. groups: (N,) numbers; rows of one number
    count as right for each other (see `caption_groups`). Recalls are fractions, ranks count from 1, ties rank by
    position.
    """
    text, motion = pairs_of(text, motion)
    size = len(text) if pool is None else pool
    if not 1 <= size <= len(text):
        raise ValueError(f"Retrieval needs a pool of 1 to {len(text)} rows, got {pool}.")
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != (len(text),):
            raise ValueError(f"groups: expected {len(text)} numbers, got shape {groups.shape}.")
    ranks = pooled_ranks(text, motion, size, groups), pooled_ranks(motion, text, size, groups)
    return {
        direction: {f"r{k}": float((found <= k).mean()) for k in TOPS} | {"median_rank": float(np.median(found))}
        for direction, found in zip(("text_to_motion", "motion_to_text"), ranks, strict=True)
    }


def caption_groups(captions: Sequence[str]) -> np.ndarray:
    """Give captions one number if they differ only in articles, "and", case, punctuation and word order. (N,) int."""
    keys: dict[tuple[str, ...], int] = {}
    contents = ([w for w in re.findall(r"[^\W_]+", caption.lower()) if w not in _FILLERS] for caption in captions)
    return np.array([keys.setdefault(tuple(sorted(words)), len(keys)) for words in contents])


def retrieve_real(
    dataset: MotionDataset,
    judges: Mapping[str, Embedder],
    config: EvaluationConfig,
    progress: Mapping[str, Path] | None = None,
) -> dict[str, dict[str, Row]]:
    """Compute retrieval figures of real motions: {judge: {set: {"text_to_motion_r1": {"mean", "ci95"}, …}}}.

    Captions, crops and pools are those of the report's rows (`protocol.draw`), for the whole split. judges: by their
    names in `JUDGES`. progress: a file for each judge, see `protocol.replicated`.
    """
    found: dict[str, dict[str, Row]] = {}
    for name, judge in judges.items():

        def replicate(replication: int, judge: Embedder = judge) -> dict[str, float]:
            real = draw(dataset, config, replication, whole=True)
            text, motion = embed_pairs(judge, real.captions, real.motions)
            figures = {}
            for candidates, (pooled, merged) in SETS.items():
                pool, groups = min(config.pool, len(real)) if pooled else None, caption_groups(real.captions)
                ways = retrieval(text, motion, pool=pool, groups=groups if merged else None)
                figures |= {
                    f"{candidates}/{way}_{name}": value for way, own in ways.items() for name, value in own.items()
                }
            return figures

        flat = replicated(replicate, config.replications, progress[name] if progress else None)
        found[name] = {candidates: {} for candidates in SETS}
        for key, figure in flat.items():
            candidates, _, metric = key.partition("/")
            found[name][candidates][metric] = figure
    return found


def table(
    found: Mapping[str, Mapping[str, Row]], pool: int, chosen: Sequence[str] = tuple(SETS)
) -> list[dict[str, str]]:
    """Format a row for each judge and chosen set: recalls in per cent, then the median rank, in both directions."""
    rows = []
    for judge, sets in found.items():
        for name in chosen:
            pooled, merged = SETS[name]
            candidates = f"pools of {pool}" if pooled else "whole split"
            candidates += ", equivalent captions merged" if merged else ""
            row = {"judge": JUDGES[judge], "candidates": candidates}
            for direction, arrow in DIRECTIONS.items():
                row |= {f"{arrow} R@{k}": f"{100 * sets[name][f'{direction}_r{k}']['mean']:.1f}" for k in TOPS}
                row[f"{arrow} median"] = f"{sets[name][f'{direction}_median_rank']['mean']:.1f}"
            rows.append(row)
    return rows
