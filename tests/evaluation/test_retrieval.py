"""Retrieval: recall and ranks against the definition, written out."""

from __future__ import annotations

import numpy as np
import pytest

from adaqf_train.evaluation.metrics import r_precision
from adaqf_train.evaluation.retrieval import caption_groups, retrieval


def embeddings(rows: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    text = rng.standard_normal((rows, 8))
    return text, text + noise * rng.standard_normal((rows, 8))


def by_definition(queries, candidates, right) -> list[int]:
    ranks = []
    for i, query in enumerate(queries):
        order = sorted(range(len(candidates)), key=lambda j: (np.linalg.norm(query - candidates[j]), j))
        ranks.append(1 + next(place for place, j in enumerate(order) if right(i, j)))
    return ranks


def test_retrieval_ranks_equal_the_definition_in_both_directions():
    text, motion = embeddings(60, 1.0)
    found = retrieval(text, motion)
    for way, a, b in (("text_to_motion", text, motion), ("motion_to_text", motion, text)):
        ranks = by_definition(a, b, lambda i, j: i == j)
        assert found[way]["median_rank"] == np.median(ranks)
        assert [found[way][f"r{k}"] for k in (1, 5, 10)] == [np.mean([r <= k for r in ranks]) for k in (1, 5, 10)]
    assert found["text_to_motion"] != found["motion_to_text"]


def test_retrieval_in_pools_agrees_with_r_precision():
    text, motion = embeddings(75, 1.5)
    found = retrieval(text, motion, pool=32)["text_to_motion"]
    np.testing.assert_allclose([found["r1"], found["r2"], found["r3"]], r_precision(text, motion, 32))
    assert found == retrieval(text[:64], motion[:64], pool=32)["text_to_motion"]
    assert retrieval(text, motion)["text_to_motion"]["r1"] < found["r1"]  # the whole set is harder


def test_retrieval_counts_merged_captions_as_right():
    text, motion = embeddings(40, 2.0)
    groups = np.arange(40) // 4
    merged = retrieval(text, motion, groups=groups)["text_to_motion"]
    ranks = by_definition(text, motion, lambda i, j: groups[i] == groups[j])
    assert merged["r1"] == np.mean([rank == 1 for rank in ranks])
    assert merged["r1"] > retrieval(text, motion)["text_to_motion"]["r1"]


def test_caption_groups_ignore_articles_case_and_order():
    captions = ["A person walks and waves.", "the person waves, walks", "a person walks", "a person walks left"]
    assert caption_groups(captions).tolist() == [0, 0, 1, 2]


def test_retrieval_of_collapsed_and_of_perfect_embeddings():
    same = np.ones((64, 4))
    assert retrieval(same, same, pool=32)["text_to_motion"]["r1"] == 1 / 32
    text, _ = embeddings(64, 0)
    assert retrieval(text, text)["motion_to_text"] == {f"r{k}": 1.0 for k in (1, 2, 3, 5, 10)} | {"median_rank": 1.0}


@pytest.mark.parametrize("wrong", [{"pool": 0}, {"pool": 41}, {"groups": [1, 2]}])
def test_retrieval_refuses_what_cannot_be_ranked(wrong):
    text, motion = embeddings(40, 1.0)
    with pytest.raises(ValueError, match=r"pool|groups"):
        retrieval(text, motion, **wrong)
    with pytest.raises(ValueError, match="NaN"):
        retrieval(text, np.full_like(motion, np.nan))
