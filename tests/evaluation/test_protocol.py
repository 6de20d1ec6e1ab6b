"""The protocol: the same draws for every model, honest counts, and rows that notice what is wrong with a motion."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaqf_train.config import EvaluationConfig
from adaqf_train.data.layout import DataError
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.report import Report

METRICS = {"fid", "r_precision_1", "r_precision_2", "r_precision_3", "mm_dist", "diversity", "skating"}
CONFIG = EvaluationConfig(split="val", replications=3, pool=8)


class Oracle:
    """An evaluator that knows which caption belongs to which clip: embeds both as the clip's mean features."""

    def __init__(self, dataset) -> None:
        self.of_caption = {c: self._embed(item.vectors) for item in dataset.items for c in item.captions}

    def embed_texts(self, texts):
        return np.stack([self.of_caption[text] for text in texts])

    def embed_motions(self, motions):
        return np.stack([self._embed(motion) for motion in motions])

    @staticmethod
    def _embed(vectors):
        return vectors[:, 4:12].mean(axis=0).astype(np.float64)


@pytest.fixture(scope="module")
def oracle(tiny_train) -> Oracle:
    return Oracle(tiny_train)


def copying(dataset, config):
    """A perfect model: returns the real clip of each caption."""
    of_caption = {c: item.vectors for item in dataset.items for c in item.captions}
    return lambda captions, lengths, seed: [of_caption[c][:n] for c, n in zip(captions, lengths, strict=True)]


def test_rows_have_all_metrics_with_intervals(tiny_train, oracle):
    for generate in (None, copying(tiny_train, CONFIG)):
        row = protocol.evaluate(generate, tiny_train, oracle, CONFIG)
        attributes = {name for name in row if name.startswith((protocol.ATTRIBUTE, protocol.COVERAGE))}
        assert set(row) - attributes == METRICS
        assert {"attribute_side", "coverage_side", "attribute_count"} <= attributes
        assert all(set(cell) == {"mean", "ci95"} for cell in row.values())
        assert all(np.isfinite(list(cell.values())).all() for cell in row.values())


def test_a_perfect_model_scores_like_the_ground_truth_and_a_confused_one_does_not(tiny_train, oracle):
    perfect = protocol.evaluate(copying(tiny_train, CONFIG), tiny_train, oracle, CONFIG)
    copy = copying(tiny_train, CONFIG)

    def confused(captions, lengths, seed):
        return copy(captions[1:] + captions[:1], lengths, seed)

    def sliding(captions, lengths, seed):
        motions = [m.copy() for m in copy(captions, lengths, seed)]
        for motion in motions:
            motion[:, 2] += 0.1  # metres per frame forward, feet and all
        return motions

    wrong = protocol.evaluate(confused, tiny_train, oracle, CONFIG)
    assert perfect["r_precision_1"]["mean"] > 0.9
    assert wrong["r_precision_1"]["mean"] < 0.3
    assert wrong["mm_dist"]["mean"] > 2 * perfect["mm_dist"]["mean"]
    slid = protocol.evaluate(sliding, tiny_train, oracle, CONFIG)
    assert perfect["attribute_side"]["mean"] > 0.9
    assert wrong["attribute_side"]["mean"] < 0.7
    assert slid["skating"]["mean"] > perfect["skating"]["mean"] + 0.3


def test_every_model_is_asked_for_the_same(tiny_train):
    a, b = protocol.draw(tiny_train, CONFIG, 1), protocol.draw(tiny_train, CONFIG, 1)
    assert a.captions == b.captions
    assert a.lengths == b.lengths
    assert protocol.draw(tiny_train, CONFIG, 2).captions != a.captions
    assert protocol.draw(tiny_train, replace(CONFIG, seed=1), 1).captions != a.captions
    assert len(a.captions) == len(tiny_train)
    assert len(protocol.draw(tiny_train, replace(CONFIG, max_samples=9), 1).captions) == 9


def test_replications_are_seeded_apart(tiny_train, oracle):
    seen = []
    copy = copying(tiny_train, CONFIG)

    def generate(captions, lengths, seed):
        seen.append(seed)
        return copy(captions, lengths, seed)

    protocol.evaluate(generate, tiny_train, oracle, CONFIG)
    assert len(set(seen)) == len(seen) == 3


def test_an_interrupted_evaluation_goes_on_with_the_next_replication(tiny_train, oracle, tmp_path):
    copy, seen = copying(tiny_train, CONFIG), []

    def generate(captions, lengths, seed):
        seen.append(seed)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return copy(captions, lengths, seed)

    progress = tmp_path / "evaluation" / "adaqf.json"
    with pytest.raises(KeyboardInterrupt):
        protocol.evaluate(generate, tiny_train, oracle, CONFIG, progress=progress)
    resumed = protocol.evaluate(generate, tiny_train, oracle, CONFIG, progress=progress)
    assert seen == [(0, 0), (0, 1), (0, 2), (0, 2)]
    assert resumed == protocol.evaluate(copy, tiny_train, oracle, CONFIG)
    assert protocol.evaluate(generate, tiny_train, oracle, CONFIG, progress=progress) == resumed
    assert len(seen) == 4


def test_the_interval_is_the_fields():
    cell = protocol.interval([1.0, 2.0, 3.0, 4.0])
    assert cell["mean"] == 2.5
    assert cell["ci95"] == pytest.approx(1.96 * np.std([1, 2, 3, 4]) / 2)
    assert protocol.interval([5.0])["ci95"] == 0


def test_counts_say_when_the_protocol_is_not_the_standard_one(tiny_train):
    counts = protocol.sample_counts(tiny_train, EvaluationConfig())
    assert counts == {
        "samples": len(tiny_train),
        "pool": 32,
        "diversity_pairs": len(tiny_train) // 2,
        "standard": False,
    }


def test_a_split_too_small_to_score_is_refused(tiny_train, oracle):
    small = type("Few", (), {"items": tiny_train.items[:5], "__len__": lambda self: 5})()
    small.folder, small.split = tiny_train.folder, "val"
    with pytest.raises(DataError, match="has 5 items; evaluation needs at least 8"):
        protocol.evaluate(None, small, oracle, CONFIG)


def test_the_report_holds_rows_counts_seeds_and_versions(tiny_train, oracle, tiny_config, tmp_path):
    row = protocol.evaluate(None, tiny_train, oracle, CONFIG)
    counts = protocol.sample_counts(tiny_train, CONFIG)
    above = {name: dict(cell) for name, cell in row.items()}
    above["r_precision_3"] = {"mean": row["r_precision_3"]["mean"] + 0.01, "ci95": 0.0}
    rows = {"gt": row, "baseline": row, "adaqf": above}
    report = Report.of(rows, tiny_config, counts, tiny_train, {"adaqf": 1.5}, "e5a1")
    report.save(tmp_path)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert set(saved["rows"]) == {"gt", "baseline", "adaqf"}
    assert saved["samples"] == len(tiny_train)
    assert saved["versions"]["torch"] == torch.__version__
    assert saved["seeds"] == {"training": 0, "extractors": 1, "evaluator": 2, "evaluation": 0}
    markdown = (tmp_path / "report.md").read_text()
    learned, _, attributes = markdown.partition("Attribute accuracy")
    assert learned.count("\n| ") == 4  # header and three rows
    assert attributes.count("\n| ") == 5  # and the coverage
    assert "above the ground truth's (AdaQF)" in markdown
    assert "Not the full protocol" in markdown
