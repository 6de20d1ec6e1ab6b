"""A finished run on procedural motions becomes the packaged models; other runs do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adaclip import AdaCLIP
from adaclip.files import write_json
from adaclip.integrity import DIGESTS, check_digests, read_sealed, write_sealed
from adaqf_train.cli import main
from adaqf_train.errors import ArtefactError
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.judges import store
from tests.cli.test_cli import error_of
from tests.helpers import deviation

PROMPTS = ["a person walks", "a person waves the left hand"]
HALF = 0.02  # deviation that rounding a few layers' weights to half precision may cause


@pytest.fixture(scope="module")
def run(tiny_run: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, with data that say how they were made."""
    folder = tmp_path_factory.mktemp("procedural")
    data, run = Path(shutil.copytree(tiny_data, folder / "data")), Path(shutil.copytree(tiny_run, folder / "run"))
    write_json(data / "origin.json", {"synthetic": {"clips": 80, "seed": 5}})
    write_sealed(run / "run.json", read_sealed(run / "run.json", "") | {"data": str(data)})
    return run


@pytest.fixture(scope="module")
def packed(run: Path) -> Path:
    out = run.parent / "checkout"
    assert main(["package", str(run), "--out", str(out), "--steps", "1"]) == 0
    return out


def test_packaged_models_compute_what_the_runs_networks_do(run, packed):
    pocket, encoder = packed / "adaqf_train/pocket", AdaCLIP.from_pretrained(packed / "adaclip/pocket")
    assert encoder.text_model.dtype == torch.float32  # half precision is slow on a CPU
    assert deviation(encoder.encode(PROMPTS), AdaCLIP.from_pretrained(run / "adaclip").encode(PROMPTS)) < HALF
    ours, theirs = MotionGenerator.from_pretrained(pocket / "generator"), MotionGenerator.from_pretrained(run / "adaqf")
    assert (ours.sampling.steps, theirs.sampling.steps) == (1, 2)
    assert all(parameter.dtype == torch.float32 for parameter in ours.parameters())
    theirs.sampling = ours.sampling
    options = {"seconds": 2.0, "output": "features"}
    for one, other in zip(ours.generate(PROMPTS, **options), theirs.generate(PROMPTS, **options), strict=True):
        assert 0 < deviation(one, other) < HALF
    judge, _, statistics = store.load_evaluator(pocket / "evaluator")
    whole, _, expected = store.load_evaluator(run / "evaluator")
    assert deviation(statistics[0], expected[0]) == 0
    assert all(deviation(a, b) < HALF for a, b in zip(judge.parameters(), whole.parameters(), strict=True))


def test_packaged_models_are_small_sealed_and_have_cards(run, packed):
    for place, stored in (("adaqf_train/pocket/generator", torch.float16), ("adaclip/pocket/base", torch.float16)):
        weights = load_file(packed / place / "model.safetensors")
        assert {value.dtype for name, value in weights.items() if name not in ("mean", "std")} == {stored}
        check_digests(packed / place, "", whole=True)
    for card in ("adaclip/pocket/README.md", "adaqf_train/pocket/README.md"):
        text = (packed / card).read_text()
        assert "apache-2.0" in text
        assert "| figure | real motions | generated |" in text
        assert "AMASS" not in text
    assert 'from_pretrained("adaclip-pocket")' in (packed / "adaclip/pocket/README.md").read_text()


def test_packaged_generator_refuses_another_encoder(packed, tmp_path):
    copy = Path(shutil.copytree(packed, tmp_path / "copy"))
    MotionGenerator.from_pretrained(copy / "adaqf_train/pocket/generator").save_pretrained(tmp_path / "whole")
    assert MotionGenerator.from_pretrained(tmp_path / "whole").generate(["a person walks"], seconds=1.0)
    digests = copy / "adaclip/pocket" / DIGESTS
    write_sealed(digests, read_sealed(digests, "") | {"more": 1})
    with pytest.raises(ArtefactError, match=r"its encoder is not the one at .*adaclip/pocket"):
        MotionGenerator.from_pretrained(copy / "adaqf_train/pocket/generator")


def test_package_refuses_runs_that_cannot_be_packaged(run, tiny_run, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "not procedural motions" in error_of(capsys, ["package", str(tiny_run), *out])
    unfinished = Path(shutil.copytree(run, tmp_path / "unfinished"))
    (unfinished / "report.json").unlink()
    assert "Run: adaqf evaluate --run" in error_of(capsys, ["package", str(unfinished), *out])
    shutil.copyfile(run / "report.json", unfinished / "report.json")
    shutil.rmtree(unfinished / "evaluator")
    assert "evaluator" in error_of(capsys, ["package", str(unfinished), *out])
    assert not (tmp_path / "out").exists()
