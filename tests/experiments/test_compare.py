"""`run.py compare`: reports of one protocol side by side, others not without saying so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaqf_train.cli import main
from adaqf_train.experiments.compare import ProtocolError, compare
from adaqf_train.experiments.paper import TABLES, PaperError, tables_of

MANIFEST = {
    "split": "test",
    "data_fingerprint": "d",
    "evaluator": "e",
    "samples": 100,
    "pool": 32,
    "diversity_pairs": 50,
    "replications": 20,
}


def row(fid: float, ci: float = 0.1) -> dict:
    return {"fid": {"mean": fid, "ci95": ci}, "r_precision_3": {"mean": 0.8, "ci95": 0.01}}


def report(folder: Path, fid: float, **changes: object) -> Path:
    folder.mkdir()
    rows = {"gt": row(0.002), "adaqf": row(fid)}
    (folder / "report.json").write_text(json.dumps({"rows": rows} | MANIFEST | changes))
    return folder


def test_reports_share_the_ground_truth_and_mark_what_differs(tmp_path):
    paths = [report(tmp_path / "a", 1.0), report(tmp_path / "b", 1.13), report(tmp_path / "c", 1.15)]
    found = compare(paths)
    assert [name for name, _ in found.rows] == ["gt", "a adaqf", "b adaqf", "c adaqf"]
    lines = found.markdown().splitlines()
    assert lines[0] == "| model | FID ↓ | R@3 ↑ |"
    assert lines[4:6] == [  # the intervals together are 0.141
        "| b adaqf | 1.130 ± 0.100 | 0.800 ± 0.010 |",
        "| c adaqf | 1.150 ± 0.100 * | 0.800 ± 0.010 |",
    ]


@pytest.mark.parametrize("key", list(MANIFEST))
def test_another_protocol_is_refused_unless_asked_for(tmp_path, key):
    paths = [report(tmp_path / "a", 1.0), report(tmp_path / "b", 1.0, **{key: 7})]
    with pytest.raises(ProtocolError, match=rf"different protocols \({key}: .*--mix"):
        compare(paths)
    assert f"**Mixed protocols**: {key} differ" in compare(paths, mix=True).markdown()


def test_the_papers_rows_stand_below_with_their_source(tmp_path, capsys):
    path = report(tmp_path / "a", 1.0)
    assert main(["compare", str(path / "report.json"), "--paper", "4"]) == 0
    told = capsys.readouterr().out
    assert "| full model (the paper, Table 4, HumanML3D) | 0.039 ± 0.001 | 0.888 ± 0.002 | 0.061 ± 0.001 |" in told
    assert "not comparable" in told


def test_what_is_no_report_is_named(tmp_path, capsys):
    (tmp_path / "empty.json").write_text("{}")
    for arguments, said in (
        ([tmp_path / "nowhere"], "nowhere: missing"),
        ([tmp_path / "empty.json"], "holds no rows"),
        ([], "at least one report"),
        ([report(tmp_path / "a", 1.0), "--paper", "10"], "no table 10"),
    ):
        assert main(["compare", *map(str, arguments)]) == 1
        assert said in capsys.readouterr().err


def test_every_table_of_the_paper_is_there():
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
    with pytest.raises(PaperError):
        tables_of(11)
