"""The report: its tables and notes, and what it writes."""

from __future__ import annotations

import json

import pytest
import torch

from adaqf_train.config import recipes
from adaqf_train.evaluation import protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.evaluation.manifest import data_counts, manifest
from adaqf_train.evaluation.report import Report
from tests.evaluation.oracle import CONFIG, Oracle, WithUnseen


@pytest.fixture(scope="module")
def oracle(tiny_train) -> Judges:
    return Judges(Oracle(tiny_train))


@pytest.fixture(scope="module")
def manifest_of(tiny_train, tiny_config):
    def of(**changes):
        counts = protocol.sample_counts(tiny_train, CONFIG)
        hashes = {"evaluator": "e5a1", "extractors": None, "official": None, "models": {"adaqf": "77"}}
        seconds = {"stages": {"adaqf": 1.5}, "rows": {"gt": 0.2}}
        made = manifest(tiny_config, tiny_train, counts, hashes=hashes, seconds=seconds, judge=Oracle(tiny_train))
        return made | changes

    return of


def test_report_holds_rows_counts_seeds_and_versions(tiny_train, oracle, manifest_of, tmp_path):
    row = protocol.evaluate(None, tiny_train, oracle, CONFIG)
    above = {name: dict(cell) for name, cell in row.items()}
    above["r_precision_3"] = {"mean": row["r_precision_3"]["mean"] + 0.01, "ci95": 0.0}
    Report.of({"gt": row, "baseline": row, "adaqf": above}, manifest_of()).save(tmp_path)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert set(saved["rows"]) == {"gt", "baseline", "adaqf"}
    assert saved["samples"] == len(tiny_train) == saved["data"]["items"]
    assert saved["data"]["captions"] > saved["data"]["clips"] == len(tiny_train)
    assert saved["versions"]["torch"] == torch.__version__
    assert saved["seeds"] == {"training": 0, "extractors": 1, "evaluator": 2, "joint_evaluator": 3, "evaluation": 0}
    assert saved["sampler"]["scheduler"] == "ddim"
    assert saved["seconds"]["rows"] == {"gt": 0.2}
    assert "permutation" in saved["batches"]["order"]
    markdown = (tmp_path / "report.md").read_text()
    learned, _, others = markdown.partition("Physics")
    physical, _, attributes = others.partition("Attribute accuracy")
    assert learned.count("\n| ") == physical.count("\n| ") == 4  # header and three rows
    assert attributes.count("\n| ") == 5  # and the coverage
    assert "above the ground truth's (AdaQF)" in markdown
    assert "Not the standard protocol: pools of 8 instead of 32; 24 pairs for diversity instead of 300" in markdown
    assert "covariances lack full rank" not in markdown


def test_report_compares_models_alone_with_the_ground_truth(tiny_train, oracle, manifest_of):
    """Yardsticks have figures in the tables, but are no models: they are not suspect, and have no attributes."""
    row = protocol.evaluate(None, tiny_train, oracle, CONFIG)
    above = row | {"r_precision_3": {"mean": row["r_precision_3"]["mean"] + 0.01, "ci95": 0.0}}
    rows = {"gt": row, "floor": above, "baseline": row, "denoised_baseline": above}
    markdown = Report.of(rows, manifest_of()).markdown()
    assert "suspect" not in markdown
    assert "R@3 minus the ground truth's: baseline +0.000." in markdown
    learned, _, others = markdown.partition("Physics")
    assert "| real, disjoint half |" in learned
    assert "| baseline, x̂₀ of real motions |" in learned
    assert others.partition("Attribute accuracy")[2].count("\n| ") == 4  # header, two rows, and the coverage


def test_report_warns_of_embeddings_too_wide_for_the_samples(tiny_train, oracle, manifest_of):
    row = protocol.evaluate(None, tiny_train, oracle, CONFIG)
    wide = Report.of({"gt": row}, manifest_of(embedding=13)).markdown()  # 48 samples
    assert "embeddings are 13 wide, more than a quarter of the 48 samples" in wide
    assert "covariances lack full rank" not in Report.of({"gt": row}, manifest_of(embedding=12)).markdown()


def test_pocket_embeddings_are_narrow_enough_for_pocket_data():
    """354 items are the Bandai-Namco test split, the smallest that a pocket recipe is reported on; the demo has 550."""
    for name in ("pocket", "aligned", "demo"):
        recipe = recipes.load(name)
        assert max(recipe.evaluator.embedding, recipe.extractors.embedding) * 4 <= 354


def test_report_has_a_table_of_unseen_combinations(tiny_train, oracle, manifest_of):
    dataset = WithUnseen(tiny_train, every=2)
    row = protocol.evaluate(None, dataset, oracle, CONFIG)
    seen_alone = {name: cell for name, cell in row.items() if not name.startswith("unseen_")}
    markdown = Report.of({"gt": row, "theirs": seen_alone}, manifest_of(data=data_counts(dataset))).markdown()
    _, _, table = markdown.partition("combinations that training never shows (24 of 48 items):")
    lines = table.split("\n\n")[1].splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ground truth", "| coverage"]
    assert lines[0].endswith("| R@3 |")
    without = Report.of({"gt": seen_alone}, manifest_of()).markdown()
    assert "training never shows" not in without


def test_report_voids_minimal_pairs_that_real_motions_fail(tiny_train, oracle, manifest_of):
    def report(truth):
        pairs = {"minimal_pairs": {"mean": truth, "ci95": 0.0}}
        row = protocol.evaluate(None, tiny_train, oracle, CONFIG)
        return Report.of(
            {"gt": row | pairs, "adaqf": row | {"minimal_pairs": {"mean": 0.7, "ci95": 0.0}}}, manifest_of()
        )

    told, void = report(0.93), report(0.85)
    assert told.rows["adaqf"]["minimal_pairs"]["mean"] == 0.7
    assert "Minimal pairs are void" not in told.markdown()
    assert void.rows["adaqf"]["minimal_pairs"] == {"mean": None, "ci95": None}
    assert void.rows["gt"]["minimal_pairs"]["mean"] == 0.85
    reason = "the evaluator prefers the caption to its flipped version for only 0.85 of the real motions"
    assert f"Minimal pairs are void: {reason}" in void.markdown()
    assert "| void |" in void.markdown()


def test_report_gives_the_coverage_of_every_accuracy():
    def row(**figures: float) -> dict:
        return {name: {"mean": value, "ci95": 0.0} for name, value in figures.items()}

    truth = row(attribute_side=1.0, coverage_side=0.9)
    theirs = row(attribute_side=0.5, coverage_side=0.4, attribute_count=0.3, coverage_count=0.2)
    alike = Report({"gt": truth, "adaqf": row(attribute_side=0.7, coverage_side=0.9)}, {}).attributes()
    assert [row["model"] for row in alike] == ["ground truth", "AdaQF", "coverage"]
    found = {row["model"]: row for row in Report({"gt": truth, "theirs": theirs}, {}).attributes()}
    assert found["theirs"] == {"model": "theirs", "side": "0.500", "count": "0.300"}
    assert found["coverage"] == {"model": "coverage", "side": "0.900", "count": "–"}
    assert found["coverage, theirs"] == {"model": "coverage, theirs", "side": "0.400", "count": "0.200"}
