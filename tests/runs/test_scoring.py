"""A run's scores: one evaluator for several runs, its fingerprint, retrieval, manifests that `compare` understands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adaclip.integrity import DIGESTS, sha256_of, write_digests, write_sealed
from adaqf_train.cli import main
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import Caption, CaptionedMotion, write_folder
from adaqf_train.judges.store import fingerprint_of
from adaqf_train.runs.layout import RunLayout
from tests.helpers import kit_body, settings_of

QUICK = ["--set", "evaluation.multimodality_texts=none"]


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def other(tiny_run, tiny_data, tiny_config, tmp_path_factory) -> Path:
    """What `adaqf evaluator` leaves, with another seed than the tiny run's evaluator."""
    out = tmp_path_factory.mktemp("judge") / "judge"
    command = ["evaluator", "--recipe", "pocket", "--data", str(tiny_data), "--out", str(out), "--reuse", str(tiny_run)]
    assert main([*command, *settings_of(tiny_config), "--set", "evaluator.seed=9"]) == 0
    return out


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def error_of(capsys, arguments: list[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_evaluator_is_trained_alone_with_its_fingerprint(other, run):
    assert {path.name for path in other.iterdir() if path.is_dir()} == {
        "pocket_clip",
        "evaluator",
        "joint_evaluator",
        "logs",
        "checkpoints",
    }
    assert len(fingerprint_of(other / "evaluator")) == 64
    assert fingerprint_of(other / "evaluator") != fingerprint_of(run / "evaluator")


def test_evaluator_scores_several_runs(other, run):
    own = report_of(run)
    folder = other / "evaluator"
    for given in (folder, other):  # the evaluator, or the run that has it
        assert main(["evaluate", "--run", str(run), "--evaluator", str(given)]) == 0
        report = report_of(run)
        assert report["evaluator"] == fingerprint_of(folder)
        assert report["rows"]["gt"]["mm_dist"] != own["rows"]["gt"]["mm_dist"]
        assert report["rows"]["gt"]["skating"] == own["rows"]["gt"]["skating"]
    assert main(["evaluate", "--run", str(run)]) == 0
    again = report_of(run)
    assert (again["evaluator"], again["rows"]) == (own["evaluator"], own["rows"])


@pytest.mark.parametrize("part", ["model.safetensors", "statistics.safetensors", "config.json", "tokenizer.json"])
def test_evaluator_that_changed_is_refused(other, run, tmp_path, capsys, part):
    folder = Path(shutil.copytree(other / "evaluator", tmp_path / "changed"))
    command = ["evaluate", "--run", str(run), "--evaluator", str(folder), *QUICK]
    path = folder / part
    if part.endswith(".json"):
        content = path.read_text()
        path.write_text(content.replace('"temperature": 0.1', '"temperature": 0.2') + " ")
    else:
        tensors = load_file(path)
        name = sorted(tensors)[0]
        tensors[name] = tensors[name] + 1e-3
        save_file(tensors, path)
    assert "its files do not match fingerprint.json" in error_of(capsys, command)
    path.write_bytes(b"not what it was")
    assert str(folder) in error_of(capsys, command)
    path.unlink()
    assert f"{path}: missing" in error_of(capsys, command)


def test_evaluator_without_a_fingerprint_or_of_other_data_is_named(other, run, tiny_config, tmp_path, capsys):
    clips = (
        CaptionedMotion(f"{i}", kit_body(60, seed=i), (Caption(f"a person sways {i} times"),), split)
        for i, split in enumerate(["train"] * 16 + ["val"] * 8 + ["test"] * 8)
    )
    write_folder(tmp_path / "kit", clips)
    command = ["evaluator", "--recipe", "pocket", "--data", str(tmp_path / "kit"), "--out", str(tmp_path / "judge")]
    assert main([*command, *settings_of(tiny_config)]) == 0
    command = ["evaluate", "--run", str(run), "--evaluator", str(tmp_path / "judge")]
    assert "reads 251 features a frame" in error_of(capsys, command)
    assert "config.json: missing" in error_of(capsys, [*command[:-1], str(tmp_path)])
    folder = Path(shutil.copytree(other / "evaluator", tmp_path / "anonymous"))
    (folder / "fingerprint.json").unlink()
    assert "fingerprint.json: missing" in error_of(capsys, [*command[:-1], str(folder)])


def test_retrieval_is_reported_alone_and_in_the_report(run, capsys):
    capsys.readouterr()
    assert main(["retrieval", "--run", str(run), "--set", "evaluation.pool=8"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| judge | candidates | T→M R@1 | T→M R@2 | T→M R@3 | T→M R@5 | T→M R@10 | T→M median |")
    assert len(lines) == 1 + 2 * 4
    assert "| the independent evaluator | pools of 8, equivalent captions merged |" in "\n".join(lines)
    for sets in report_of(run)["retrieval"].values():
        assert set(sets) == {"pools", "pools_merged", "whole", "whole_merged"}
        for which, figures in sets.items():
            assert len(figures) == 2 * 6
            recalls = [figures[f"text_to_motion_r{k}"]["mean"] for k in (1, 2, 3, 5, 10)]
            assert recalls == sorted(recalls)
            plain = sets[which.removesuffix("_merged")]
            assert figures["text_to_motion_r10"]["mean"] >= plain["text_to_motion_r10"]["mean"]


def test_retrieval_in_pools_is_the_ground_truths_r_precision(run):
    report = report_of(run)
    pools = report["retrieval"]["evaluator"]["pools"]
    for k in (1, 2, 3):
        assert pools[f"text_to_motion_r{k}"]["mean"] == pytest.approx(report["rows"]["gt"][f"r_precision_{k}"]["mean"])
    own = report["rows"]["gt"]["r_precision_3_extractors"]["mean"]
    assert report["retrieval"]["extractors"]["pools"]["text_to_motion_r3"]["mean"] == pytest.approx(own)


def test_manifest_states_what_was_scored(run, tiny_data):
    report = report_of(run)
    split = MotionDataset(tiny_data, "test")
    assert report["data_fingerprint"] == split.fingerprint()
    assert report["data"] == {"clips": 16, "items": 16, "captions": len(split.captions()), "unseen_items": 0}
    assert report["evaluator"] == fingerprint_of(run / "evaluator")
    assert set(report["models"]) == {"baseline", "adaqf"}
    assert len(set(report["models"].values()) | {report["extractors"]}) == 3
    assert report["sampler"]["steps"] == 2
    assert set(report["seconds"]["rows"]) == set(report["rows"])
    assert all(seconds > 0 for seconds in report["seconds"]["rows"].values())
    assert report["batches"]["sampling"] == 64
    assert {"torch", "transformers", "peft", "diffusers", "numpy"} <= report["versions"].keys()


def test_evaluate_refuses_changed_weights_and_scores_new_ones(run, capsys):
    before = report_of(run)
    path = run / "adaqf" / "model.safetensors"
    save_file({name: value + np.float32(0.05) for name, value in load_file(path).items()}, path)
    said = error_of(capsys, ["evaluate", "--run", str(run)])
    assert f"{path}: changed since it was saved" in said
    assert f"delete {run / 'adaqf'} and run the same command again: it repeats the stage adaqf" in said
    write_digests(run / "adaqf")  # as if the stage had been repeated
    stages = RunLayout(run).stages()
    stages["adaqf"]["folders"]["adaqf"] = sha256_of(run / "adaqf" / DIGESTS)
    write_sealed(run / "stages.json", stages)
    assert main(["evaluate", "--run", str(run)]) == 0
    after = report_of(run)
    assert after["models"]["adaqf"] != before["models"]["adaqf"]
    assert after["rows"]["adaqf"] != before["rows"]["adaqf"]
    assert after["rows"]["baseline"] == before["rows"]["baseline"]


def test_evaluate_resumes_after_an_interruption(run, monkeypatch):
    from adaqf_train.evaluation import protocol

    before, score, calls = report_of(run), protocol.score, []
    shutil.rmtree(run / "evaluation")

    def interrupted(*arguments, **named):
        calls.append(arguments[5])  # the replication
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(*arguments, **named)

    monkeypatch.setattr(protocol, "score", interrupted)
    assert main(["evaluate", "--run", str(run)]) == 130
    assert calls == [0, 1, 0, 1]  # two of the ground truth, then the baseline's
    assert main(["evaluate", "--run", str(run)]) == 0
    assert calls[4:] == [1, 0, 1]
    after = report_of(run)
    for name, row in before["rows"].items():
        for metric, cell in row.items():  # memory is aligned otherwise: the last digits are not the same
            assert cell["mean"] is None or after["rows"][name][metric] == pytest.approx(cell, rel=1e-4, abs=1e-6)


def test_evaluate_gives_motions_and_models_comparable_reports(run, tiny_data, tmp_path, capsys):
    split = MotionDataset(tiny_data, "test")
    for number, name in ((16, "all"), (12, "some")):
        (tmp_path / name).mkdir()
        for item in split.items[:number]:
            np.save(tmp_path / name / f"{item.key}.npy", item.vectors)
        scored = [
            "evaluate",
            "--run",
            str(run),
            "--motions",
            str(tmp_path / name),
            "--out",
            str(tmp_path / f"of_{name}"),
        ]
        assert main(scored) == 0
    report = report_of(tmp_path / "of_all")
    assert len(report["motions"]["all"]) == 16
    assert report["motions"]["all"] != report_of(tmp_path / "of_some")["motions"]["some"]
    assert report["rows"]["gt"] == report_of(run)["rows"]["gt"]
    assert report["rows"]["all"]["jerk"]["mean"] < 0.1 * report_of(run)["rows"]["adaqf"]["jerk"]["mean"]
    capsys.readouterr()
    assert main(["compare", str(run), str(tmp_path / "of_all")]) == 0
    assert "| of_all all |" in capsys.readouterr().out
    assert "(samples: 16, 12; pool: 16, 12; diversity_pairs: 8, 6)" in error_of(
        capsys, ["compare", str(run), str(tmp_path / "of_some")]
    )
    assert main(["evaluate", "--run", str(run), "--set", "evaluation.protocol=mdm1024", *QUICK]) == 0
    assert report_of(run)["protocol"] == "mdm1024"
    assert "1,024" in (run / "report.md").read_text()
    assert "(protocol: mdm1024, full" in error_of(capsys, ["compare", str(run), str(tmp_path / "of_all")])


GUIDANCES = (0.5, 1.0, 3.0)
CURVE = ["--evaluation.guidances", *map(str, GUIDANCES), "--set", "evaluation.curve_replications=1"]


def test_evaluate_chooses_the_guidance_on_val_and_reports_the_curve(run, capsys):
    assert main(["evaluate", "--run", str(run), *QUICK, *CURVE]) == 0
    report = report_of(run)
    assert report["guidance_rule"] == "fid"
    for arm in ("baseline", "adaqf"):
        curve = report["curves"][arm]
        on_val = {point["guidance"]: point["replications"] for point in curve["val"]}
        on_test = {point["guidance"]: point["replications"] for point in curve["test"]}
        assert set(on_val) == set(on_test) == set(GUIDANCES)
        assert curve["chosen"] == min(on_val, key=lambda g: (on_val[g][0]["fid"], g))
        # The main table is a point of the curve, whose replication was not sampled again.
        kept = list((run / "evaluation").glob(f"{arm}_test_*.json"))
        assert len(kept) == len(GUIDANCES) - 1
        contents = [
            json.loads(path.read_text())["replications"] for path in (run / "evaluation").glob(f"{arm}_{'?' * 16}.json")
        ]
        own = on_test[curve["chosen"]][0]["fid"]
        main_table = next(rows for rows in contents if rows[0]["fid"] == own)
        assert len(main_table) == 2
        assert report["rows"][arm]["fid"]["mean"] == pytest.approx(np.mean([row["fid"] for row in main_table]))
    assert report["along_curves"]["adaqf"]["units"] == 1
    markdown, page = (run / "report.md").read_text(), (run / "motions.html").read_text()
    assert "(chosen)" in markdown
    assert "![FID against R@3 over guidance](curve.svg)" in markdown
    assert "the one with the lowest FID on val, of equal ones the smaller: baseline" in markdown
    assert (run / "curve.svg").is_file()
    assert page.count('<g id="figure_1">') == 1
    assert "Along the curves, minus baseline" in page
    assert set(report["power"]) <= {"fid", "r_precision_3"}


def test_evaluate_samples_no_point_of_a_curve_twice(run, monkeypatch):
    from adaqf_train.generators.base import MotionGenerator

    sampled, generate = [], MotionGenerator.generate_features

    def counted(self, prompts, lengths, *, seed, **options):
        sampled.append(self.sampling.guidance)
        return generate(self, prompts, lengths, seed=seed, **options)

    monkeypatch.setattr(MotionGenerator, "generate_features", counted)
    assert main(["evaluate", "--run", str(run), *QUICK, *CURVE]) == 0
    first, page = len(sampled), 2  # the page samples each arm again
    # For each arm: three points on val, two replications of the main table, the two other points on test.
    assert first == 2 * (3 + 2 + 2) + page
    assert main(["evaluate", "--run", str(run), *QUICK, *CURVE]) == 0
    assert len(sampled) == first + page
    assert main(["evaluate", "--run", str(run), *QUICK, *CURVE, "--evaluation.choose", "none"]) == 0
    report = report_of(run)
    own = report["sampler"]["guidance"]
    assert {curve["chosen"] for curve in report["curves"].values()} == {own}
    assert all(not curve["val"] for curve in report["curves"].values())
    assert {point["guidance"] for point in report["curves"]["adaqf"]["test"]} == {own, *GUIDANCES}


def test_evaluate_samples_the_page_as_the_figures(run, monkeypatch):
    from adaqf_train.generators.base import MotionGenerator

    steps, generate = [], MotionGenerator.generate_features

    def noted(self, *arguments, **options):
        steps.append(self.sampling.steps)
        return generate(self, *arguments, **options)

    monkeypatch.setattr(MotionGenerator, "generate_features", noted)
    assert main(["evaluate", "--run", str(run), *QUICK, "--sampling.steps", "3"]) == 0
    assert set(steps) == {3}


def test_evaluate_refuses_guidances_that_repeat(run, capsys):
    assert "must differ" in error_of(capsys, ["evaluate", "--run", str(run), "--set", "evaluation.guidances=1,1"])
    assert "at least 0" in error_of(capsys, ["evaluate", "--run", str(run), "--set", "evaluation.guidances=1,-1"])


def test_evaluate_says_that_val_flatters_and_that_a_page_is_not_written(run, capsys):
    """A guidance of a billion throws the joints further than a page shows; its report remains."""
    far = ["--evaluation.guidances", "1e9", "--evaluation.split", "val", "--set", "evaluation.curve_replications=1"]
    complaint = error_of(capsys, ["evaluate", "--run", str(run), *QUICK, *far])
    assert "motions.html: not written; the report is." in complaint
    assert "so the figures flatter every model" in (run / "val" / "report.md").read_text()


def test_evaluate_makes_a_procedural_test_set_of_any_size(run, tiny_data, tmp_path):
    data = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (data / "origin.json").write_text(json.dumps({"synthetic": {"clips": 80, "seed": 5}}))
    sizes = {"test": 100, "val": 40, "reference": 120}
    command = ["evaluate", "--run", str(run), "--data", str(data), *QUICK, "--set", "evaluation.replications=1"]
    command += ["--evaluation.guidances", "1", "2"]
    for name, size in sizes.items():
        command += [f"--evaluation.procedural_{name}", str(size)]
    assert main(command) == 0
    report = report_of(run)
    assert report["procedural"] == sizes | {"held_out": 32}  # a pool, at least
    assert (report["samples"], report["data"]["items"], report["data"]["unseen_items"]) == (100, 100, 0)
    assert {len(point["replications"]) for point in report["curves"]["adaqf"]["val"]} == {1}
    for name in ("gt", "baseline", "adaqf"):
        assert {"unseen_fid", "unseen_r_precision_3", "unseen_attribute_side"} <= report["rows"][name].keys()
    markdown = (run / "report.md").read_text()
    assert "combinations that training never shows (32 further clips):" in markdown
    assert "FID compares with 120 other real motions" in markdown
    assert main(["evaluate", "--run", str(run), *QUICK, "--evaluation.procedural_test", "100"]) == 1  # other data
