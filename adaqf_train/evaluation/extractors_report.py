"""How well each judge finds real motions by their captions, and captions by their motions (Table 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation.protocol import Row, draw, replicated
from adaqf_train.evaluation.retrieval import TOPS, caption_groups, retrieval
from adaqf_train.evaluation.scores import unit
from adaqf_train.judges.evaluators import Evaluator
from adaqf_train.judges.official import T2MEvaluator

JUDGES = {
    "extractors": "the feedback's extractors",
    "evaluator": "the independent evaluator",
    "official": "the official evaluators",
}
# name in the report -> whether candidates are a pool (or the whole split), whether like captions count for each other
SETS = {
    "pools": (True, False),
    "pools_merged": (True, True),
    "whole": (False, False),
    "whole_merged": (False, True),
}
WAYS = {"text_to_motion": "T→M", "motion_to_text": "M→T"}
_BETWEEN = "/"  # of set and figure while both are one name


def retrieve_real(
    dataset: MotionDataset,
    judges: Mapping[str, Evaluator | T2MEvaluator],
    config: EvaluationConfig,
    progress: Mapping[str, Path] | None = None,
) -> dict[str, dict[str, Row]]:
    """{judge: {set: {"text_to_motion_r1": {"mean", "ci95"}, …, "motion_to_text_median_rank": …}}} of real motions.

    judges: by their names in `JUDGES`. The replications' captions, crops and pools are those of the report's rows
    (`protocol.draw`), of the whole split. Extractors that were trained on cosines are asked for these, all others for
    Euclidean distances. progress: a file for each judge, as in `protocol.replicated`.
    """
    found = {}
    for name, judge in judges.items():

        def replicate(replication: int, judge: Evaluator | T2MEvaluator = judge) -> dict[str, float]:
            sampled = draw(dataset, config, replication, whole=True)
            text, motion = judge.embed_texts(sampled.captions), judge.embed_motions(sampled.motions)
            if isinstance(judge, Evaluator) and judge.cosine:
                text, motion = unit(text), unit(motion)
            return _figures(text, motion, sampled.captions, min(config.pool, len(sampled.captions)))

        flat = replicated(replicate, config.replications, progress[name] if progress else None)
        found[name] = {
            which: {
                figure: cell for key, cell in flat.items() for a, _, figure in [key.partition(_BETWEEN)] if a == which
            }
            for which in SETS
        }
    return found


def table(
    found: Mapping[str, Mapping[str, Row]], pool: int, chosen: Sequence[str] = tuple(SETS)
) -> list[dict[str, str]]:
    """A row for each judge and chosen set, as text: recalls in per cent, then the median rank, both ways."""
    rows = []
    for judge, sets in found.items():
        for which in chosen:
            figures, (pooled, merged) = sets[which], SETS[which]
            candidates = f"pools of {pool}" if pooled else "whole split"
            row = {"judge": JUDGES[judge], "candidates": candidates + (", like captions merged" if merged else "")}
            for way, arrow in WAYS.items():
                row |= {f"{arrow} R@{k}": f"{100 * figures[f'{way}_r{k}']['mean']:.1f}" for k in TOPS}
                row[f"{arrow} median"] = f"{figures[f'{way}_median_rank']['mean']:.1f}"
            rows.append(row)
    return rows


def _figures(text: np.ndarray, motion: np.ndarray, captions: list[str], pool: int) -> dict[str, float]:
    groups = caption_groups(captions)
    return {
        f"{which}{_BETWEEN}{way}_{figure}": value
        for which, (pooled, merged) in SETS.items()
        for way, figures in retrieval(
            text, motion, pool=pool if pooled else None, groups=groups if merged else None
        ).items()
        for figure, value in figures.items()
    }
