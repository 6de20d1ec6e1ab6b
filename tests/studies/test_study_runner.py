"""`adaqf study`: every trial once, whatever it trains, and tables of what there is."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from adaclip.integrity import read_sealed, sha256_of, write_sealed
from adaqf_train.cli import main
from adaqf_train.data.prepare.procedural import prepare_procedural
from adaqf_train.runs import stages
from adaqf_train.runs.layout import RunLayout
from adaqf_train.studies.arms import FROZEN
from tests.helpers import settings_of

ARMS = ("baseline", "full")
FIT = ("steps=4", "batch=8", "ema=none", "workers=0", "checkpoint_every=2")
SMALL = ("width=16", "layers=1", "heads=2", "feedforward=16")
FAMILIES = [
    *("latent.autoencoder.width=16", "latent.autoencoder.depth=1", "latent.autoencoder.latent=8"),
    *(f"latent.denoiser.{setting}" for setting in SMALL),
    *("masked.tokenizer.width=16", "masked.tokenizer.depth=1", "masked.tokenizer.code=4", "masked.tokenizer.codes=16"),
    *("masked.tokenizer.levels=2", "masked.sampling.steps=2", "latent.sampling.steps=2"),
    *(f"masked.{part}.{setting}" for part in ("masked", "residual") for setting in SMALL),
    *(
        f"{fit}.{setting}"
        for fit in (
            "latent.autoencoder_training",
            "latent.training",
            "masked.tokenizer_training",
            "masked.masked_training",
            "masked.residual_training",
        )
        for setting in FIT
    ),
    *("moclip.steps=3", "moclip.batch=8", "moclip.rank=2", "moclip.alpha=2"),
]


@pytest.fixture(scope="module")
def command(tiny_data, tiny_config, tmp_path_factory) -> list[str]:
    """`study components`, at a size that takes seconds."""
    folder = tmp_path_factory.mktemp("study")
    settings = [*settings_of(tiny_config), "--set", "validation.every=3", "--set", "validation.strips=0"]
    for setting in FAMILIES:
        settings += ["--set", f"families.{setting}"]
    places = ["--out", str(folder / "runs"), "--results", str(folder / "results"), "--pages", str(folder / "docs")]
    return ["study", "components", "--data", f"procedural={tiny_data}", "--seeds", "1", *places, *settings]


@pytest.fixture
def study(command):
    """study(name, *arms, more=options): runs it; gives what it keeps of each trial it ran, and its page."""

    def run(name: str, *arms: str, more: tuple[str, ...] = ()) -> tuple[list[dict], str]:
        kept = kept_in(command)
        before = set(kept.iterdir()) if kept.is_dir() else set()
        chosen = [option for arm in arms for option in ("--arms", arm)]
        assert main([command[0], name, *command[2:], *chosen, *more]) == 0
        new = sorted(set(kept.iterdir()) - before)
        return [json.loads(path.read_text()) for path in new], (docs(command) / f"{name}.md").read_text()

    return run


def docs(command: list[str]) -> Path:
    return Path(command[command.index("--pages") + 1])


def kept_in(command: list[str]) -> Path:
    return Path(command[command.index("--results") + 1])


def test_study_runs_each_trial_once(command, study, capsys):
    ran, page = study("components", *ARMS)
    assert len(ran) == len(ARMS)
    assert [point["step"] for point in ran[0]["curve"]] == [3, 6]
    assert {"fid", "r_precision_3", "skating"} <= ran[0]["test"].keys() & ran[0]["truth"].keys()
    assert page.count("*not run*") > 4
    for picture in ("components-procedural-figures.png", "components-procedural-curves.png"):
        assert f"({picture})" in page
        assert (docs(command) / picture).is_file()
    capsys.readouterr()
    assert study("components", *ARMS)[0] == []  # nothing is run again
    assert study("convergence", *ARMS)[0] == []  # nor for another study
    assert "seed 0" not in capsys.readouterr().err


def test_study_keeps_curves_over_guidance_and_does_not_mix_versions(command, study, tmp_path, capsys):
    curve = ("--set", "evaluation.guidances=1,2", "--results", str(tmp_path / "results"))
    more = [*command, "--arms", "baseline", *curve]
    assert main(more) == 0
    (path,) = (tmp_path / "results").iterdir()
    kept = json.loads(path.read_text())
    assert {point["guidance"] for point in kept["guidance"]["test"]} == {1, 2}
    assert kept["test"]["guidance"] == kept["guidance"]["chosen"] in (1, 2)
    assert {"r_precision_3", "r_precision_3_extractors"} <= kept["truth_val"].keys()
    assert kept["floor"]["fid"] > 0
    page = (docs(command) / "components.md").read_text()
    assert "| 1 of 1 |" in page
    assert "| real, disjoint half |" in page
    # As an earlier version would have left it.
    older = kept
    for name in ("guidances", "choose", "curve_replications"):
        del older["manifest"]["config"]["evaluation"][name]
    path.write_text(json.dumps({name: older[name] for name in ("trial", "test", "truth", "curve", "manifest")}))
    assert main([*more, "--report-only"]) == 0
    assert "scored every arm at one guidance" in (docs(command) / "components.md").read_text()
    capsys.readouterr()
    assert main([*command, "--arms", "baseline", "--arms", "full", *curve]) == 1
    assert "do not compare. Give another --results" in capsys.readouterr().err


def test_study_aligns_once_for_all_arms_of_a_seed(command, study, monkeypatch):
    aligned, align = [], stages.align

    def briefly(accelerator, dataset, encoder, sizes, config, *more):
        aligned.append(config)
        return align(accelerator, dataset, encoder, sizes, replace(config, steps=2), *more)

    monkeypatch.setattr(stages, "align", briefly)
    more = ("--set", "evaluation.procedural_test=none", "--set", "alignment.batch=8")
    ran, _ = study("method", "aligned", "aligned_frozen", more=more)
    assert [result["manifest"]["seconds"]["aligned"] for result in ran] == [0, 0]  # it is borrowed
    assert len(aligned) == 1
    runs = Path(command[command.index("--out") + 1])
    (source,) = runs.glob("*-aligned-*/aligned")
    copies = [*runs.glob("*-mdm-*/aligned")]
    assert len(copies) == len(ran)
    assert {sha256_of(copy / "adapter" / "adapter_model.safetensors") for copy in (source, *copies)} == {
        sha256_of(source / "adapter" / "adapter_model.safetensors")
    }


def test_study_trains_every_family_under_frozen_encoders(study):
    arms = ("mdm_base", "mdm_adaclip", "latent_base", "latent_adaclip", "masked_base", "masked_adaclip")
    ran, page = study("transfer", *arms)
    by_arm = {(result["trial"]["generator"], result["trial"]["encoder"] in (None, "base")): result for result in ran}
    for result in by_arm.values():
        assert {"fid", "r_precision_3"} <= result["test"].keys()
        assert [point["step"] for point in result["curve"]][:1] == [3]
    for kind in ("mdm", "latent", "masked"):
        assert by_arm[kind, False]["trial"]["encoder"].startswith("procedural-mdm-")
    # Draws of tokens may well be the same after four steps, but not what comes out of a continuous model.
    assert by_arm["latent", True]["test"]["fid"] != by_arm["latent", False]["test"]["fid"]
    assert {"fid_R0", "fid_R1"} <= by_arm["masked", True]["test"].keys()
    assert "residual levels" in page


def _stop_before_the_stage_is_recorded(command: list[str], stage: str, result: dict) -> None:
    """Leave what a kill between the writing of a stage and its entry in stages.json leaves, and no result."""
    key = result["trial"]["encoder"]
    run = RunLayout(Path(command[command.index("--out") + 1]) / f"{key}-seed{result['trial']['seed']}")
    write_sealed(run.path / "stages.json", {name: entry for name, entry in run.stages().items() if name != stage})
    for path in kept_in(command).iterdir():
        if json.loads(path.read_text())["trial"] == result["trial"]:
            path.unlink()


def test_study_trains_moclip_and_measures_forgetting(command, study):
    ran, _ = study("encoders", "masked_moclip")
    assert ran[0]["trial"]["encoder"].startswith("moclip-procedural-mdm-")
    _stop_before_the_stage_is_recorded(command, "moclip", ran[0])
    assert study("encoders", "masked_moclip")[0][0]["test"] == ran[0]["test"]
    ran, page = study("forgetting", "base", "adaclip", "moclip")
    kept = {result["trial"]["encoder"][:6]: result["test"] for result in ran}
    assert kept["base"]["kept_spearman"] == pytest.approx(1.0)
    assert kept["base"]["still_r3"] == kept["base"]["still_r3_own"]
    assert kept["proced"]["kept_cosine"] < 1
    assert "general prompts" in page


def test_study_scores_extractors_by_retrieval(study):
    ran, page = study("retrieval")
    ours, margin = (result["test"] for result in ran)
    assert ours["whole_text_to_motion_r1"] >= 0
    assert ours != margin
    assert "| T→M R@1 ↑, whole split |" in page  # a row each: there are too many for columns


def test_study_takes_an_encoder_of_the_other_data_set(study, command, tmp_path, capsys):
    asked = ["study", "datasets", *command[2:], "--arms", "pooled_other"]
    assert main(asked) == 1
    assert "a base that both share" in capsys.readouterr().err
    runs = Path(command[command.index("--out") + 1])
    (shared,) = runs.glob("procedural-shared-*")
    base = ("--base", str(shutil.copytree(shared / "pocket_clip", tmp_path / "base")))
    assert main([*asked, *base]) == 1
    assert "Give --data twice" in capsys.readouterr().err
    prepare_procedural(tmp_path / "other", clips=80, seed=5)
    other = ("--data", f"other={tmp_path / 'other'}", "--set", "alignment.batch=8")
    ran, page = study("datasets", "pooled_other", more=(*other, *base))
    encoders = {result["trial"]["data"]: result["trial"]["encoder"] for result in ran}
    assert encoders["procedural"].startswith("other-mdm-")
    assert encoders["other"].startswith("procedural-mdm-")
    assert "## other" in page


def test_example_reruns_the_smallest_study(command, tiny_data, tmp_path, monkeypatch, capsys):
    script = Path(__file__).parents[2] / "examples" / "rerun_study.py"
    shutil.copytree(tiny_data, tmp_path / "data")
    settings = command[command.index("--set") :]
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path), *settings])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(script), run_name="__main__")
    assert "## The paper's claims" in capsys.readouterr().out
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_study_refuses_results_of_other_settings_or_evaluators(command, study, capsys):
    study("components", *ARMS)
    again = [*command, *(option for arm in ARMS for option in ("--arms", arm)), "--report-only"]
    for change, message in (
        ({"config": {"training": {"batch": 99}}}, "made with other settings (config.training.batch: 99 -> 8)"),
        ({"evaluator": "another"}, "scored by different evaluators"),
        ({"data": "other"}, "of other data than"),
    ):
        contents = {path: path.read_text() for path in kept_in(command).iterdir()}
        path = next(path for path, content in contents.items() if _is_baseline(json.loads(content)["trial"]))
        content = contents[path]
        write_sealed(path, _merged(read_sealed(path, ""), {"manifest": change}))
        assert main(again) == 1
        assert message in capsys.readouterr().err
        path.write_text(content)
    assert main(again) == 0


def _is_baseline(trial: dict) -> bool:
    return trial["settings"][-3:] == list(FROZEN) and trial["encoder"] is None


def _merged(content: dict, change: dict) -> dict:
    return content | {
        name: _merged(content[name], value) if isinstance(value, dict) else value for name, value in change.items()
    }


def test_study_skips_a_trial_that_another_process_runs(command, study, capsys):
    runs = Path(command[command.index("--out") + 1])
    ran, _ = study("components", "pooled_full")
    name = f"{ran[0]['trial']['data']}-mdm"
    (path,) = [path for path in kept_in(command).iterdir() if json.loads(path.read_text()) == ran[0]]
    path.unlink()
    with FileLock(runs / path.stem / ".lock"):
        assert study("components", "pooled_full") == ([], (docs(command) / "components.md").read_text())
    assert "left to the process that is running it" in capsys.readouterr().err
    again, _ = study("components", "pooled_full")  # what was trained is not trained again
    assert again[0]["test"] == ran[0]["test"]
    assert name in path.stem


def test_study_continues_after_a_failed_trial(command, study, capsys):
    assert main(["study", "samples", *command[2:], "--arms", "full_1000", "--arms", "baseline_all"]) == 1
    assert "1 trials failed: procedural, AdaQF, 1000 clips, seed 0:" in capsys.readouterr().err
    assert study("samples", "baseline_all")[0] == []  # there already


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--arms", "fuller"], "There is no arm"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--data", "nameless"], "expected LABEL=FOLDER"),
        (["--data", "procedural=elsewhere"], "two folders have the same label"),
        (["--set", "families.latent.widht=3"], "There is no setting"),
    ],
)
def test_study_names_wrong_arguments(command, change, message, capsys):
    assert main([*command, *change]) == 1
    assert message in capsys.readouterr().err
