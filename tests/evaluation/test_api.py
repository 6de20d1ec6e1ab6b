"""`evaluate` scores what it is given as a run's own evaluation does."""

from __future__ import annotations

import json

import pytest

from adaqf_train import MotionDataset, MotionGenerator, evaluate
from adaqf_train.config import RunConfig, build
from adaqf_train.errors import ConfigError


def test_evaluate_gives_the_figures_of_a_runs_report(tiny_run, tiny_data):
    report = json.loads((tiny_run / "report.json").read_text())
    config = build(RunConfig, report["config"])
    generator = MotionGenerator.from_pretrained(tiny_run / "adaqf")
    generator.sampling = config.sampling
    dataset = MotionDataset(tiny_data, "test", config.data)
    settings = {
        name: value for name, value in report["config"]["evaluation"].items() if name not in ("replications", "seed")
    }
    asked = {"replications": config.evaluation.replications, "seed": config.evaluation.seed, **settings}
    found = evaluate(generator, dataset, tiny_run / "evaluator", **asked)
    assert set(found.rows) == {"gt", "generated"}
    for row, name in (("gt", "gt"), ("generated", "adaqf")):
        for metric in ("fid", "r_precision_3", "skating"):
            assert found.rows[row][metric]["mean"] == pytest.approx(report["rows"][name][metric]["mean"], rel=1e-6)
    assert "generated" in found.markdown()

    def generate(captions, lengths, seed):
        return generator.generate_features(captions, lengths, seed=seed)

    by_function = evaluate(generate, dataset, str(tiny_run / "evaluator"), **asked)
    assert by_function.rows == found.rows
    other = evaluate(generate, dataset, tiny_run / "evaluator", **asked | {"seed": 5})
    assert other.rows != found.rows
    with pytest.raises(ConfigError, match=r"evaluation\.pool must be at least 3"):
        evaluate(generate, dataset, tiny_run / "evaluator", pool=1)
    with pytest.raises(ConfigError, match="need a run"):  # not ignored
        evaluate(generate, dataset, tiny_run / "evaluator", guidances=(1.0, 2.0))
