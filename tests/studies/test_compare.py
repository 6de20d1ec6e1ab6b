"""`adaqf compare`: reports of one protocol side by side, others not without saying so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaqf_train.cli import main
from adaqf_train.errors import ConfigError, ResultError
from adaqf_train.evaluation.curves import ArmCurve
from adaqf_train.studies.compare import compare
from adaqf_train.studies.paper import TABLES, tables_of

MANIFEST = {
    "protocol": "full",
    "split": "test",
    "data_fingerprint": "d",
    "evaluator": "e",
    "official": "o",
    "samples": 100,
    "pool": 32,
    "diversity_pairs": 50,
    "replications": 20,
    "multimodality": {"texts": 100, "repeats": 30, "pairs": 10},
}


def row(fid: float, ci: float = 0.1) -> dict:
    return {"fid": {"mean": fid, "ci95": ci}, "r_precision_3": {"mean": 0.8, "ci95": 0.01}}


def report(folder: Path, fid: float, baseline: float | None = None, **changes: object) -> Path:
    folder.mkdir()
    rows = {"gt": row(0.002)} | ({"baseline": row(baseline)} if baseline else {}) | {"adaqf": row(fid)}
    (folder / "report.json").write_text(json.dumps({"rows": rows} | MANIFEST | changes))
    return folder


def lines_of(comparison) -> list[str]:
    return [line for line in comparison.markdown().splitlines() if line.startswith("| ")]


def test_compare_shares_the_ground_truth_and_marks_differences(tmp_path):
    paths = [report(tmp_path / "a", 1.0), report(tmp_path / "b", 1.14), report(tmp_path / "c", 1.16)]
    assert lines_of(compare(paths)) == [  # Welch's test over 20 replications wants a gap of 0.150
        "| model | FID ↓ | R@3 ↑ |",
        "| gt | 0.002 ± 0.100 | 0.800 ± 0.010 |",
        "| a adaqf | 1.000 ± 0.100 | 0.800 ± 0.010 |",
        "| b adaqf | 1.140 ± 0.100 | 0.800 ± 0.010 |",
        "| c adaqf | 1.160 ± 0.100 * | 0.800 ± 0.010 |",
    ]


def test_compare_marks_differences_from_the_own_baseline(tmp_path):
    near, far = report(tmp_path / "near", 1.0, 1.1), report(tmp_path / "far", 1.0, 1.5)
    assert "| near adaqf | 1.000 ± 0.100 | 0.800 ± 0.010 |" in lines_of(compare([near]))
    assert "| far adaqf | 1.000 ± 0.100 † | 0.800 ± 0.010 |" in lines_of(compare([far]))


def test_compare_pairs_runs(tmp_path):
    steady = [report(tmp_path / f"s{i}", 1.0 + i, 1.5 + i + 0.01 * i) for i in range(3)]
    told = compare(steady).markdown()
    assert "paired over 3 runs" in told
    assert "FID ↓ -0.510 ± 0.025 *" in told
    wild = [report(tmp_path / f"w{i}", 1.0, 1.5 + (-1) ** i * 2) for i in range(3)]
    assert " *;" not in compare(wild).markdown().partition("paired over")[2]
    assert "paired" not in compare(steady[:1]).markdown()


@pytest.mark.parametrize("key", list(MANIFEST))
def test_compare_refuses_another_protocol_without_mix(tmp_path, key):
    paths = [report(tmp_path / "a", 1.0), report(tmp_path / "b", 1.0, **{key: 7})]
    with pytest.raises(ResultError, match=rf"different protocols \({key}: .*--mix"):
        compare(paths)
    assert f"**Mixed protocols**: {key} differ" in compare(paths, mix=True).markdown()


@pytest.mark.parametrize("key", ["official", "multimodality"])
def test_compare_accepts_reports_without_optional_figures(tmp_path, key):
    told = compare([report(tmp_path / "a", 1.0), report(tmp_path / "b", 1.0, **{key: None})]).markdown()
    assert "Mixed" not in told


def test_compare_shows_the_figures_of_older_reports(tmp_path):
    new = report(tmp_path / "new", 1.0)
    content = json.loads((new / "report.json").read_text())
    content["rows"]["adaqf"] |= {
        "minimal_pairs": {"mean": None, "ci95": None},
        "jerk": {"mean": 5.0, "ci95": 0.5},
        "attribute_side": {"mean": 0.9, "ci95": 0.01},
    }
    (new / "report.json").write_text(json.dumps(content))
    old = report(tmp_path / "old", 1.0)
    content = json.loads((old / "report.json").read_text())
    (old / "report.json").write_text(
        json.dumps({k: v for k, v in content.items() if k not in ("protocol", "official", "multimodality")})
    )
    told = compare([new, old])
    assert list(told.tables) == ["By the independent evaluator", "Physics", "Attribute accuracy"]
    assert "| new adaqf | 1.000 ± 0.100 | 0.800 ± 0.010 | void |" in lines_of(told)
    assert "| old adaqf | 1.000 ± 0.100 | 0.800 ± 0.010 | – |" in lines_of(told)
    assert "Not every report states its protocol, official, multimodality" in told.markdown()


def test_compare_shows_curves_over_guidance(tmp_path):
    def curve(shift: float) -> dict:
        points = {1.0: (2.7 + shift, 0.70), 2.0: (4.7 + shift, 0.80)}
        rows = {g: [{"fid": fid + n, "r_precision_3": r} for n in (0, 0.1)] for g, (fid, r) in points.items()}
        return ArmCurve(1.0, rows).as_dict()

    paths = [
        report(tmp_path / name, 1.0, curves={"baseline": curve(0.0), "adaqf": curve(shift)}, guidance_rule="fid")
        for name, shift in (("a", -0.5), ("b", -0.7))
    ]
    found = compare(paths).tables["Along the curves over guidance"]
    minus = {(row["model"], row["minus"]): row["FID at the same R@3 ↓"] for row in found}
    assert minus["a adaqf (guidance 1)", "a baseline"] == "-0.500 ± 0.000 (at 0.700)"
    assert minus["b adaqf (guidance 1)", "a adaqf"] == "-0.200 ± 0.000 (at 0.700)"
    assert minus["b baseline (guidance 1)", "a baseline"] == "+0.000 ± 0.000 (at 0.700)"
    assert "Along the curves" not in compare([report(tmp_path / "older", 1.0)]).markdown()
    fixed = report(tmp_path / "fixed", 1.0, guidance_rule="none")
    with pytest.raises(ResultError, match="guidance_rule: fid, none"):
        compare([paths[0], fixed])


def test_compare_shows_retrieval_beside_table_8(tmp_path):
    figures = {
        f"{way}_r{k}": {"mean": 0.5, "ci95": 0.1} for way in ("text_to_motion", "motion_to_text") for k in (1, 10)
    }
    path = report(tmp_path / "a", 1.0, retrieval={"extractors": {"pools": figures}})
    told = compare([path], tables_of(8)).tables["Retrieval of real motions, in pools"]
    assert told[0] == {"model": "a extractors"} | {
        f"{way} R@{k}": "0.500 ± 0.100" if k in (1, 10) else "–" for way in ("T→M", "M→T") for k in (1, 2, 3, 5, 10)
    }
    assert len(told) == 1 + 10


def test_compare_shows_the_papers_rows_with_their_source(tmp_path, capsys):
    path = report(tmp_path / "a", 1.0)
    assert main(["compare", str(path / "report.json"), "--paper", "4"]) == 0
    told = capsys.readouterr().out
    assert "| full model (the paper, Table 4, HumanML3D) | 0.039 ± 0.001 | 0.888 ± 0.002 |" in told
    assert "| full model (the paper, Table 4, HumanML3D) | 0.061 ± 0.001 |" in told
    assert "not comparable" in told


def test_compare_shows_the_papers_rows_beside_the_official_evaluators(tmp_path):
    path = report(tmp_path / "a", 1.0)
    content = json.loads((path / "report.json").read_text())
    for cells in content["rows"].values():
        cells["official_fid"] = {"mean": 0.5, "ci95": 0.1}
    (path / "report.json").write_text(json.dumps(content))
    told = compare([path], tables_of(1)).tables
    assert len(told["By the independent evaluator"]) == 2
    assert [r["FID ↓"] for r in told["By the official evaluators"]][:2] == ["0.500 ± 0.100"] * 2
    assert len(told["By the official evaluators"]) > 5


def test_compare_names_files_that_are_not_reports(tmp_path, capsys):
    (tmp_path / "empty.json").write_text("{}")
    for arguments, said in (
        ([tmp_path / "nowhere"], "nowhere: missing"),
        ([tmp_path / "empty.json"], "holds no rows"),
        ([], "at least one report"),
        ([report(tmp_path / "a", 1.0), "--paper", "10"], "no table 10"),
    ):
        assert main(["compare", *map(str, arguments)]) == 1
        assert said in capsys.readouterr().err


def test_paper_has_every_table():
    assert [(table.number, table.dataset) for table in TABLES] == [
        *((1, "HumanML3D"), (2, "KIT-ML"), (3, "HumanML3D"), (4, "HumanML3D"), (5, "HumanML3D"), (6, "HumanML3D")),
        *((7, "HumanML3D"), (8, "HumanML3D"), (8, "KIT-ML"), (9, "HumanML3D")),
    ]
    ours = {table.number: table.rows[-1].cells for table in TABLES if table.number in (1, 2)}
    assert ours[1]["r_precision_3"] == {"mean": 0.888, "ci95": 0.002}
    assert ours[2]["fid"] == {"mean": 0.161, "ci95": 0.010}
    assert tables_of(8)[0].rows[-1].cells["text_to_motion_r1"] == {"mean": pytest.approx(0.6915), "ci95": None}
    assert [row.method for row in tables_of(5)[0].rows[1:]] == [
        f"λ_M={m}, λ_T={t}" for m, t in ((1, 1), (3, 1), (5, 1), (10, 1), (10, 2), (10, 3), (10, 5))
    ]
    for table in TABLES:
        for row in table.rows:  # a transcription error would most likely break one of these
            cells = {metric: cell["mean"] for metric, cell in row.cells.items()}
            assert row.source
            if "r_precision_1" in cells:
                assert 0 < cells["r_precision_1"] < cells["r_precision_2"] < cells["r_precision_3"] < 1
            if table.number == 8:
                values = list(cells.values())
                assert values[:5] == sorted(values[:5])
                assert values[5:] == sorted(values[5:])
    with pytest.raises(ConfigError):
        tables_of(11)


POINT = {"guidance": 1.0, "replications": [{"fid": 1.0, "r_precision_3": 0.5}]}
CURVE = {"chosen": 1.0, "test": [POINT], "val": []}


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": {"gt": {"fid": {"mean": "1", "ci95": 0.1}}}},
        {"retrieval": {"evaluator": 3}},
        {"retrieval": {"evaluator": {"pools": {"text_to_motion_r1": 3}}}},
        {"curves": 3},
        {"curves": {"adaqf": {"chosen": 1.0, "test": [POINT]}}},
        {"curves": {"adaqf": CURVE | {"chosen": "one"}}},
        {"curves": {"adaqf": CURVE | {"chosen": 2.0}}},
        {"curves": {"adaqf": CURVE | {"test": [POINT | {"replications": [{"fid": 1.0}]}]}}},
    ],
)
def test_compare_says_in_one_line_that_a_report_is_damaged(damage, tmp_path):
    assert compare([report(tmp_path / "whole", 1.0, curves={"adaqf": CURVE})]).tables
    with pytest.raises(ResultError, match="a damaged report"):
        compare([report(tmp_path / "damaged", 1.0, **damage)])
