"""Results of trials: kept, found again, never mixed up; and the tables made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaclip.integrity import read_sealed, write_sealed
from adaqf_train.errors import ConfigError, ResultError
from adaqf_train.evaluation.curves import ArmCurve
from adaqf_train.evaluation.power import smallest_difference
from adaqf_train.studies import definitions as studies
from adaqf_train.studies import figures, guidance, results, tables
from adaqf_train.studies.definitions import STUDIES
from adaqf_train.studies.page import write_study
from adaqf_train.studies.results import Result
from adaqf_train.studies.trial import Trial

PUBLISHED = Path(__file__).parents[2] / "results"
TRUTH = {"fid": 0.01, "r_precision_3": 0.98, "r_precision_3_extractors": 0.99, "attribute_side": 1.0}


def result(arm: str, seed: int, fid: float, curve: list | None = None) -> Result:
    settings = STUDIES["components"].arms[arm].settings
    test = {"fid": fid, "r_precision_3": 0.9, "r_precision_3_extractors": 0.95, "attribute_side": 0.5}
    return Result(Trial("procedural", "pocket", settings, seed), test, TRUTH, curve or [], {"threads": 1})


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_studies_have_valid_references_and_claims(study):
    assert study.reference in study.arms
    for arm in study.arms.values():
        assert arm.against is None or arm.against in study.arms
    for claim in study.claims:
        assert {claim.arm, claim.than} <= study.arms.keys()
        assert tables.METRICS[claim.metric][1] is not None
    assert len({(arm.settings, arm.kind, arm.encoder) for arm in study.arms.values()}) == len(study.arms)


def test_load_names_the_nearest_study():
    with pytest.raises(ConfigError, match="nearest is 'components'"):
        studies.load("component")


def test_results_load_only_for_the_same_trial(tmp_path):
    kept = result("full", 0, 3.0, [{"step": 5, "fid": 4.0}])
    kept.save(tmp_path)
    assert results.load(tmp_path, kept.trial) == kept
    for other in (result("full", 1, 3.0), result("baseline", 0, 3.0)):
        assert results.load(tmp_path, other.trial) is None
    path = tmp_path / f"{kept.trial.name}.json"
    content = read_sealed(path, "")
    write_sealed(path, content | {"trial": content["trial"] | {"recipe": "demo"}})
    with pytest.raises(ResultError, match="another trial"):
        results.load(tmp_path, kept.trial)
    path.write_text(json.dumps({"trial": {"data": "x"}}))
    with pytest.raises(ResultError, match="not the result of a trial"):
        results.load(tmp_path, kept.trial)


def test_figure_on_val_is_the_mean_of_the_last_points():
    found = result("full", 0, 3.0, [{"step": step, "fid": float(step), "attribute_side": 0.5} for step in range(1, 6)])
    assert results.figure(found, "val_fid") == 4.0
    assert results.figure(found, "val_attributes") == 0.5
    assert results.figure(found, "val_skating") is None
    assert results.figure(result("full", 0, 3.0), "val_fid") is None


def test_figure_of_the_gap_on_val_is_relative_to_the_ground_truth():
    """Extractors of another kind have another ground truth: without it, weak extractors seem to leave no gap."""
    points = [{"step": 5, "r_precision_3": 0.8, "r_precision_3_extractors": 0.82}]
    known = replace(result("full", 0, 3.0, points), truth_val={"r_precision_3": 0.99, "r_precision_3_extractors": 0.97})
    assert results.figure(known, "val_gap") == pytest.approx((0.82 - 0.97) - (0.8 - 0.99))
    older = result("full", 0, 3.0, points)  # its ground truth on test takes the place
    assert results.figure(older, "val_gap") == pytest.approx((0.82 - 0.99) - (0.8 - 0.98))
    assert results.figure(replace(older, truth={}), "val_gap") is None


def test_figure_derives_delta_gap_and_attributes():
    found = result("full", 0, 3.0)
    assert results.figure(found, "delta") == pytest.approx(-0.08)
    assert results.figure(found, "gap") == pytest.approx((0.95 - 0.99) - (0.9 - 0.98))
    assert results.figure(found, "attributes") == 0.5
    assert results.figure(found, "minimal_pairs") is None
    assert results.figure(found, "gap_joints") is None
    second = replace(
        found,
        test=found.test | {"joints_r_precision_3": 0.7},
        truth=found.truth | {"joints_r_precision_3": 0.9},
    )
    assert results.figure(second, "gap_joints") == pytest.approx((0.95 - 0.99) - (0.7 - 0.9))


@pytest.fixture
def some() -> tables.Results:
    """Three seeds of two arms; the other arms were not run."""
    curves = {
        "baseline": [{"step": 100, "fid": 9.0}, {"step": 400, "fid": 5.0}],
        "full": [{"step": 100, "fid": 5.0}, {"step": 400, "fid": 4.0}],
    }
    fids = {"baseline": (5.0, 6.0, 5.5), "full": (4.0, 5.1, 4.4)}
    return {
        arm: {seed: result(arm, seed, fid, curves[arm]) for seed, fid in enumerate(values)}
        for arm, values in fids.items()
    }


def test_tables_show_results_verdicts_and_missing_trials(some):
    study = STUDIES["components"]
    table = tables.figures_table(study, some)
    assert "| baseline (MDM: frozen encoder, no feedback) | 5.500 ± 1.242 |" in table
    assert f"| {study.arms['lora'].title} | {tables.NOT_RUN} |" in table
    assert "**-1.000 ± 0.248**" in tables.differences_table(study, some)
    verdicts = tables.verdicts_table(study, {"procedural": some}).splitlines()
    assert verdicts[2].endswith("| **reproduced** |")
    assert all(line.endswith("| **undecided** |") for line in verdicts[3:])
    assert "| FID ↓ | 400, 400, 400 | 100, 100, 100 | 0.25 |" in tables.convergence_table(study, some)
    slower = {"baseline": some["full"], "full": some["baseline"]}
    sooner = tables.verdicts_table(STUDIES["convergence"], {"procedural": some}).splitlines()
    assert sooner[2].endswith("| shares 0.25, 0.25, 0.25 | 3 | **reproduced** |")
    assert sooner[3].endswith("| *not run* | 0 | **undecided** |")
    late = {arm: {seed: replace(r, curve=r.curve[1:]) for seed, r in found.items()} for arm, found in some.items()}
    coarse = tables.verdicts_table(STUDIES["convergence"], {"procedural": late}).splitlines()
    assert coarse[2].endswith("(too coarse) | 3 | **undecided** |")  # the first point is the reference's best already
    never = tables.verdicts_table(STUDIES["convergence"], {"procedural": slower}).splitlines()
    assert never[2].endswith("| shares never, never, never | 3 | **not reproduced** |")
    worse = tables.verdicts_table(study, {"procedural": slower}).splitlines()
    assert worse[2].endswith("| **+1.000 ± 0.248** | 3 | **not reproduced** |")
    two = {
        arm: {seed: some[arm][seed] for seed in seeds} for arm, seeds in {"baseline": (0, 1), "full": (0, 2)}.items()
    }
    assert tables.verdicts_table(study, {"procedural": two}).splitlines()[2].endswith("| -1.000 | 1 | **undecided** |")
    assert "the paper" not in tables.verdicts_table(study, {"procedural": some})
    assert "| full model (Table 4, HumanML3D) | 0.039 | 0.888 | 0.061 |" in tables.paper_table(study)


def test_ways_table_compares_steps_to_a_share_of_the_way():
    """From the baseline's first point, FID 41, 90 % of the way to the real motions' 1 is FID 5; 95 % is FID 3."""
    curves = {
        "baseline": [{"step": 25, "fid": 41.0}, {"step": 50, "fid": 6.0}, {"step": 100, "fid": 4.9}],
        "aligned_light": [{"step": 25, "fid": 60.0}, {"step": 50, "fid": 4.0}, {"step": 100, "fid": 2.9}],
    }
    truth = {"fid": 1.0, "r_precision_3": 0.98}
    own = {arm: replace(result("full", 0, 3.0, curve), truth=truth) for arm, curve in curves.items()}
    found = {arm: dict.fromkeys(range(3), result) for arm, result in own.items()}
    study = STUDIES["method_convergence"]
    first, second = tables.ways_table(study, found).splitlines()[2:]
    assert first.endswith("| FID ↓, 90 % of the way | 100, 100, 100 | 50, 50, 50 | 0.50 |")
    assert second.endswith("| FID ↓, 95 % of the way | never, never, never | 100, 100, 100 | 0.00 |")
    verdicts = tables.verdicts_table(study, {"procedural": found}).splitlines()
    assert verdicts[2].endswith("| shares 0.50, 0.50, 0.50 | 3 | **reproduced** |")
    assert tables.ways_table(STUDIES["convergence"], found) == ""


@pytest.fixture
def curved() -> tables.Results:
    """Three seeds of two arms with curves: at one guidance AdaQF loses FID, along the curves it wins."""
    points = {
        "pooled_baseline": {1.0: (2.7, 0.70), 1.5: (4.9, 0.77), 2.5: (10.9, 0.76)},
        "pooled_full": {1.0: (2.6, 0.75), 1.5: (5.8, 0.84), 2.5: (9.0, 0.85)},
    }

    def one(arm: str, seed: int) -> Result:
        noise = 0.1 * seed * (1 if arm == "pooled_full" else 1.2)
        rows = {g: [{"fid": fid + noise, "r_precision_3": r}] for g, (fid, r) in points[arm].items()}
        curve = ArmCurve(1.0, rows, rows).as_dict()
        found = result(arm, seed, rows[1.0][0]["fid"])
        manifest = {"config": {"evaluation": {"guidances": [1.0, 1.5, 2.5]}}, "seconds": {}, "threads": 1, "torch": "2"}
        return replace(found, guidance=curve, manifest=manifest)

    return {arm: {seed: one(arm, seed) for seed in range(3)} for arm in points}


def test_tables_compare_arms_along_their_curves(curved, tmp_path):
    study = STUDIES["guidance"]
    points = tables.guidance_table(study, curved).splitlines()
    assert points[2] == "| baseline, pooled text | 1 | 2.820 | 0.700 | 2.820 | 0.700 | 3 of 3 |"
    assert len(points) == 2 + 6
    along = tables.along_table(study, curved).splitlines()
    assert along[2].startswith("| AdaQF, pooled text | baseline, pooled text | – (R@3 0.700 lies outside its own curve")
    assert "0.750 to 0.770" in along[2]
    lower, higher, area, *own = tables.verdicts_table(study, {"procedural": curved}).splitlines()[2:]
    assert lower.endswith("| – | the curves do not meet | 3 | **undecided** |")
    assert higher.endswith("| 3 | **reproduced** |")
    assert area.endswith("| 3 | **reproduced** |")
    assert len(own) == 2
    assert guidance.draw(tmp_path / "curve.png", curved)
    assert not guidance.draw(tmp_path / "none.png", {"lora": {}})
    one = {arm: {0: found[0]} for arm, found in curved.items()}
    assert tables.verdicts_table(study, {"procedural": one}).count("**undecided**") == 5
    page = write_study(study, {"procedural": curved}, tmp_path, "adaqf study guidance").read_text()
    assert "guidance-procedural-guidance.png" in page
    assert "one guidance (" not in page


def test_verdicts_state_the_difference_that_they_could_see(some):
    line = tables.verdicts_table(STUDIES["components"], {"procedural": some}).splitlines()[2]
    deviation = np.std([-1.0, -0.9, -1.1], ddof=1)
    assert f"| {smallest_difference(deviation, 3, paired=True):.3f} | **-1.000 ± 0.248** | 3 |" in line


def test_results_of_an_older_version_are_shown_and_named_as_such(tmp_path):
    published = [results.read(path) for path in sorted(PUBLISHED.glob("procedural-mdm-*.json"))]
    published = [found for found in published if results.is_older(found)]
    assert published
    found = {"full": {published[0].trial.seed: published[0]}}
    page = write_study(STUDIES["components"], {"procedural": found}, tmp_path, "adaqf study components").read_text()
    assert "scored every arm at one guidance (1.5)" in page


def test_figures_are_drawn_of_existing_results_only(some, tmp_path):
    titled = {arm: list(found.values()) for arm, found in some.items()} | {"lora": []}
    assert figures.draw_curves(tmp_path / "curves.png", titled, {"fid": "FID"})
    assert not figures.draw_curves(tmp_path / "none.png", titled, {"skating": "skating"})
    assert figures.draw_estimates(tmp_path / "test.png", {"a": {"fid": [1.0, 1.1]}, "b": {}}, {"fid": "FID"})
    assert not figures.draw_estimates(tmp_path / "none.png", {"b": {}}, {"fid": "FID"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "test.png"]
    first = (tmp_path / "curves.png").read_bytes()
    figures.draw_curves(tmp_path / "curves.png", titled, {"fid": "FID"})
    assert (tmp_path / "curves.png").read_bytes() == first  # nothing of the day is in it
