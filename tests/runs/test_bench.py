"""The benchmark's parts return rows, and its command prints and saves them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from accelerate import Accelerator
from rich.console import Console

from adaqf_train.cli import main
from adaqf_train.runs import bench, bench_mdm
from tests.processes import Python

MDM = """
import torch
from torch import nn


class MDM(nn.Module):
    def __init__(self, **sizes):
        super().__init__()
        self.clip_model = nn.Linear(2, 2)
        self.layer = nn.Linear(sizes["njoints"], sizes["njoints"])

    def encode_text(self, text):
        return self.clip_model(torch.zeros(len(text), 2))
"""
DIFFUSION = """
import torch


class Diffusion:
    def training_losses(self, model, motion, timesteps, model_kwargs):
        assert len(model_kwargs["y"]["text"]) == len(motion)
        return {"loss": model.layer(motion[:, :, 0].transpose(1, 2)).square().mean(dim=(1, 2))}

    def p_sample_loop(self, model, shape, **options):
        return torch.zeros(shape)


def create_gaussian_diffusion(options):
    assert options.diffusion_steps == 50
    return Diffusion()
"""
GUIDED = "class ClassifierFreeSampleModel:\n    def __init__(self, model):\n        self.model = model\n"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """One timed call of everything."""
    monkeypatch.setattr(bench, "SECONDS", 0.01)


@pytest.fixture
def small(tiny_config):
    return replace(tiny_config, sampling=replace(tiny_config.sampling, batch=2))


def test_steps_have_a_row_for_each_length_and_one_for_the_data(small):
    rows = bench.steps(small, "no", frames=(40, 64))
    assert [row["on"].split(",")[0] for row in rows] == ["40 frames", "64 frames", "as in the data"]
    assert all(row["ms"] > 0 for row in rows)
    assert all(0 < row["share of the floor"] < 1 for row in rows[:2])
    other = Accelerator(cpu=True)
    assert [row["on"] for row in bench.steps(small, "bf16", frames=(40,), in_data=False)] == ["40 frames, batch 8"]
    assert other.mixed_precision == "no"  # an accelerator made before is as it was


def test_sampling_times_both_samplers(small):
    rows = bench.sampling(small, motions=2, frames=40)
    assert [row["what"] for row in rows] == ["sampling, DDPM 50", "sampling, DDIM 10"]
    assert rows[0]["ms"] > rows[1]["ms"] > 0


def test_encoding_is_compared_with_a_plain_call(small):
    rows = bench.encoding(small, ("no",), prompts=(1, 8))
    assert [row["on"] for row in rows] == ["1 prompts", "8 prompts"]
    for row in rows:
        assert row["times as fast"] == pytest.approx(row["plain transformers, ms"] / row["ms"])


def test_bench_prints_what_was_and_was_not_measured(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "settings", lambda size: small)
    monkeypatch.setattr(bench, "FRAMES", (40,))
    monkeypatch.setattr(bench, "encoding", lambda config, precisions: [])
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["bench", "--out", str(tmp_path / "bench.json")]) == 0
    printed = capsys.readouterr().out
    assert "pocket size" in printed
    assert "MDM's own step and sampling (–): not measured, give --mdm CHECKOUT" in printed
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["machine"]["TFLOP/s no"] > 0
    assert {row["what"] for row in content["rows"]} >= {bench.STEP, "sampling, DDIM 10"}


def test_bench_refuses_a_folder_that_is_no_checkout(tmp_path, capsys):
    assert main(["bench", "--mdm", str(tmp_path)]) == 1
    assert "not a checkout of MDM" in capsys.readouterr().err


def test_show_marks_missing_figures():
    console = Console(record=True, width=200)
    rows = [{"what": "x", "on": "y", "precision": "no", "ms": 1.5}, bench.unmeasured("z", "bf16", "it needs a GPU")]
    bench.show(rows, {"device": "d", "torch": "t", "size": "s", "TFLOP/s no": 1.0, "TFLOP/s bf16": 2.0}, console)
    text = console.export_text()
    assert "not measured" in text
    assert "z (bf16): not measured, it needs a GPU" in text
    assert "host waits" not in text  # a column that no row has a figure for


def test_show_cuts_no_figure_off_on_a_narrow_screen():
    console = Console(record=True, width=60)
    figures = {key: 12345.678 + number for number, key in enumerate(bench.SHOWN.values())}
    rows = [
        {"what": "AdaQF's step of a whole batch", "on": "32 × 128 frames", "precision": "bf16", "ms": 98765.4} | figures
    ]
    bench.show(rows, {"device": "d", "torch": "t", "size": "s", "TFLOP/s no": 1.0, "TFLOP/s bf16": 2.0}, console)
    text = console.export_text()
    assert "…" not in text
    assert all(shown in text for shown in ("98,765", "12,347", "12,352", *bench.SHOWN))


@pytest.mark.slow
def test_mdm_is_timed_in_a_checkout(tmp_path):
    for name, content in (("model/mdm", MDM), ("utils/model_util", DIFFUSION), ("utils/sampler_util", GUIDED)):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    rows = bench_mdm.measure(tmp_path)
    assert [row["what"] for row in rows] == list(bench_mdm.WHAT)
    assert all(row["ms"] is not None and row["ms"] > 0 for row in rows), rows


def test_mdm_that_does_not_import_is_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_mdm.subprocess, "run", lambda command, **_: Python(*command[1:]).done())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mdm.py").write_text("import a_package_that_is_missing\n")
    rows = bench_mdm.measure(tmp_path)
    assert [row["ms"] for row in rows] == [None, None]
    assert "a_package_that_is_missing" in rows[0]["why"]
