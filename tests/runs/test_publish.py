"""A finished run goes to the Hub with what it can do; an unfinished one does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adaclip import AdaCLIP
from adaclip.integrity import read_sealed, write_sealed
from adaqf_train.cli import main
from tests.adaclip import hub_server

REPO = "me/adaclip-tiny"
PROMPTS = ["a person walks", "a person waves the left hand"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    with hub_server.serve() as hub:
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(f"{constants}.ENDPOINT", hub.address)
        monkeypatch.setattr(
            f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        yield hub


def error_of(capsys, arguments: list[str]) -> str:
    capsys.readouterr()
    assert main(arguments) == 1
    return capsys.readouterr().err


def test_push_writes_an_adapter_with_its_card(run, online, tmp_path, capsys):
    assert main(["push", str(run), REPO, "--data-licence", "cc-by-nc-4.0", "--trained-on", "my-motions"]) == 0
    assert f"{online.address}/{REPO}/commit/" in capsys.readouterr().out
    loaded = AdaCLIP.from_pretrained(REPO, cache_dir=tmp_path / "cache")
    assert torch.equal(loaded.encode(PROMPTS), AdaCLIP.from_pretrained(run / "adaclip").encode(PROMPTS))
    card = online.repositories[REPO].files["README.md"].decode()
    fid = json.loads((run / "report.json").read_text())["rows"]["adaqf"]["fid"]["mean"]
    assert f'"value": {round(fid, 4)}' in card  # for the Hub's own tables
    assert "| ground truth |" in card
    assert '"data_fingerprint"' in card
    assert 'license: "cc-by-nc-4.0"' in card
    assert 'datasets: ["my-motions"]' in card
    assert "AMASS" in card
    assert str(run) not in card
    assert str(run.parent) not in card
    assert loaded.details.metrics["fid"] == round(fid, 4)
    assert all(name.encode() != b"config.json" for name in online.repositories[REPO].files)  # it would break peft


def test_push_dry_run_writes_the_folder_and_pushes_nothing(run, online, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert main(["push", str(run), REPO, "--dry-run"]) == 0
    assert REPO not in online.repositories
    assert f'from_pretrained("{REPO}")' in (run / "hub" / "README.md").read_text()
    encoder = AdaCLIP.from_pretrained(run / "hub")
    assert torch.equal(encoder.encode(PROMPTS), AdaCLIP.from_pretrained(run / "adaclip").encode(PROMPTS))
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert main(["push", str(run), REPO]) == 0
    pushed = {name for name in online.repositories[REPO].files if name != ".gitattributes"}
    looked_at = {str(path.relative_to(run / "hub")) for path in (run / "hub").rglob("*") if path.is_file()}
    assert pushed == looked_at


@pytest.mark.parametrize("source", ["", "adaqf"], ids=["adapter", "generator"])
@pytest.mark.parametrize(
    ("origin", "options", "says", "leaves_out"),
    [
        ({"synthetic": {"clips": 80, "seed": 5}}, (), 'license: "apache-2.0"', "AMASS"),
        ({"synthetic": {"clips": 80, "seed": 5}}, ("--data-licence", "cc-by-4.0"), 'license: "cc-by-4.0"', "AMASS"),
        ({"synthetic": {"clips": 80, "seed": 5}}, ("--trained-on", "my-motions"), "AMASS", "procedural:"),
        ({"merged": {"a": "A", "b": "B"}}, (), "AMASS", "apache-2.0"),
    ],
)
def test_push_states_the_terms_of_the_data(run, source, origin, options, says, leaves_out):
    """The recipe does not say what the data were: every recipe trains on procedural motions, too."""
    settings = run / "run.json"
    write_sealed(settings, read_sealed(settings, "") | {"data": "data"})
    (run / "data").mkdir()
    (run / "data" / "origin.json").write_text(json.dumps(origin))
    assert main(["push", str(run / source), REPO, "--dry-run", *options]) == 0
    card = (run / (f"{source}-hub" if source else "hub") / "README.md").read_text()
    assert says in card
    assert leaves_out not in card


def test_push_refuses_an_unfinished_run(run, online, capsys):
    report = run / "report.json"
    without = read_sealed(report, "")
    report.unlink()
    assert f"Run: adaqf evaluate --run {run}" in error_of(capsys, ["push", str(run), REPO])
    del without["rows"]["adaqf"]
    write_sealed(report, without)
    assert "has no figures of this run's adapter" in error_of(capsys, ["push", str(run), REPO])
    shutil.rmtree(run / "adaclip")
    assert "there is no adapter. Train one" in error_of(capsys, ["push", str(run), REPO])
    assert "not a run" in error_of(capsys, ["push", str(run.parent), REPO])
    assert not online.repositories


def test_push_reports_names_and_missing_logins_in_one_line(run, online, monkeypatch, capsys):
    assert "not the name of a repository" in error_of(capsys, ["push", str(run), "a/b/c"])
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(run / "no-token"))
    assert "hf auth login" in error_of(capsys, ["push", str(run), REPO])
