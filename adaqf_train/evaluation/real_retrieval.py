"""How well each judge retrieves real motions by their captions, and captions by their motions (Table 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation.embedder import Embedder, embed_pairs
from adaqf_train.evaluation.protocol import Row, draw, replicated
from adaqf_train.evaluation.retrieval import TOPS, caption_groups, retrieval

JUDGES = {
    "extractors": "the feedback's extractors",
    "evaluator": "the independent evaluator",
    "official": "the official evaluators",
}
# name in the report -> whether candidates are a pool (else the whole split), whether equivalent captions count as right
SETS = {
    "pools": (True, False),
    "pools_merged": (True, True),
    "whole": (False, False),
    "whole_merged": (False, True),
}
DIRECTIONS = {"text_to_motion": "T→M", "motion_to_text": "M→T"}


def retrieve_real(
    dataset: MotionDataset,
    judges: Mapping[str, Embedder],
    config: EvaluationConfig,
    progress: Mapping[str, Path] | None = None,
) -> dict[str, dict[str, Row]]:
    """Compute retrieval figures of real motions for each judge.

    Captions, crops and pools are those of the report's rows (`protocol.draw`), for the whole split.

    Args:
        dataset: The split.
        judges: Judges by their names in `JUDGES`.
        config: Number of replications, size of a pool, seed.
        progress: A file for each judge, see `protocol.replicated`.

    Returns:
        {judge: {set: {"text_to_motion_r1": {"mean", "ci95"}, …, "motion_to_text_median_rank": …}}}.
    """
    found: dict[str, dict[str, Row]] = {}
    for name, judge in judges.items():

        def replicate(replication: int, judge: Embedder = judge) -> dict[str, float]:
            real = draw(dataset, config, replication, whole=True)
            return _figures(judge, real.captions, real.motions, min(config.pool, len(real)))

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


def _figures(judge: Embedder, captions: Sequence[str], motions: Sequence, pool: int) -> dict[str, float]:
    """{"set/direction_metric": value}, flat as `replicated` takes it."""
    text, motion = embed_pairs(judge, captions, motions)
    groups = caption_groups(captions)
    return {
        f"{name}/{direction}_{metric}": value
        for name, (pooled, merged) in SETS.items()
        for direction, figures in retrieval(
            text, motion, pool=pool if pooled else None, groups=groups if merged else None
        ).items()
        for metric, value in figures.items()
    }
