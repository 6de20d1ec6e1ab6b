"""Against checkouts of MDM, MoMask and SALAD: one forward pass and one training step, vanilla and with AdaCLIP.

Their location comes from $ADACLIP_MDM, $ADACLIP_MOMASK and $ADACLIP_SALAD; without it these tests are skipped.
"""

from __future__ import annotations

import importlib
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from adaclip import AdaCLIP
from tests.integrations.field import LAUNCHER, VARIABLES, checkout_of, copy_of, run
from tests.integrations.probe import LONG, PROMPTS

PROBE = Path(__file__).with_name("probe.py")
WAYS = ("patch", "launch", "swap")
pytestmark = pytest.mark.slow
codebases = pytest.mark.parametrize("codebase", VARIABLES)


def shim(codebase: str):
    return importlib.import_module(f"adaclip_integrations.{codebase}")


@pytest.fixture(scope="module")
def probed(request, tmp_path_factory):
    """probed(codebase, way): what probe.py found in a copy of the checkout; each is run once."""

    @cache
    def probe(codebase: str, way: str, checkpoint_of: str = "") -> list[dict]:
        checkout_of(codebase)  # before models are made for nothing
        models = request.getfixturevalue("models")
        root = tmp_path_factory.mktemp(f"{codebase}-{way}") / "checkout"
        copy_of(codebase, root)
        (root / "checkpoints").mkdir(exist_ok=True)
        (root / "checkpoints" / "clip-vit-base-patch32").symlink_to(models / "full" / "clip-vit-base-patch32")
        environment = {"ADACLIP_WEIGHTS": "vanilla"} if way in ("vanilla", "swap") else {}
        if way != "launch":
            shim(codebase).apply(root, str(models / ("other" if way == "other" else "adapter")))
        arguments = [root.parent / "out.pt", codebase, way, models / "adapter"]
        arguments = [str(PROBE), *map(str, arguments), str(models / "ViT-B-32.pt")]
        if way == "swap":  # swapped out of a vanilla model
            environment["ADACLIP_WEIGHTS"] = str(models / "other")
        if checkpoint_of:
            arguments.append(str(saved(codebase, checkpoint_of)))
        served = ["--weights", str(models / "adapter")] if way == "launch" else []
        command = [*LAUNCHER, "--compat", *served, *arguments]
        run(root, command, **environment)
        return torch.load(root.parent / "out.pt")

    @cache
    def saved(codebase: str, way: str) -> Path:
        path = tmp_path_factory.mktemp("checkpoints") / f"{codebase}-{way}.pt"
        torch.save(probe(codebase, way), path)
        return path

    return probe


@pytest.fixture(scope="module")
def expected(request):
    """expected(codebase, adapter): AdaCLIP's own vectors of the prompts, as that codebase reads them."""

    @cache
    def encode(codebase: str, name: str, prompts: tuple[str, ...] = tuple(PROMPTS)) -> torch.Tensor:
        models = request.getfixturevalue("models")
        base = models / "bases" / "clip-vit-base-patch32"
        encoder = AdaCLIP.from_base(base) if name == "base" else AdaCLIP.from_pretrained(models / name, base=base)
        if codebase != "salad":
            return encoder.encode(list(prompts))
        tokens = encoder.encode(list(prompts), output="tokens").tokens
        return nn.functional.pad(tokens, (0, 0, 0, 77 - tokens.shape[1]))

    return encode


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@codebases
def test_the_checkout_is_recognised_and_comes_back_clean(codebase, tmp_path):
    root = copy_of(codebase, tmp_path / "checkout")
    shim(codebase).check(root)
    changed = shim(codebase).apply(root, "owner/adapter")

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=True).stdout

    assert git("status", "--short").split() == [part for file in sorted(changed) for part in ("M", file)]
    added = sum(int(line.split()[0]) for line in git("diff", "--numstat").splitlines())
    assert added == len(shim(codebase).EDITS)
    shim(codebase).revert(root)
    assert git("status", "--short") == ""
    assert checkout_of(codebase) != root


@codebases
@pytest.mark.shows("{codebase}: {column}")
@pytest.mark.parametrize(("way", "column"), zip(WAYS, ("edit", "launcher", "in Python"), strict=True))
def test_the_generator_reads_adaclips_own_vectors(codebase, way, column, probed, expected):
    for found in probed(codebase, way):
        assert difference(found["vectors"], expected(codebase, "adapter")) < 1e-5
        assert difference(found["vectors"], expected(codebase, "other")) > 1e-3
        assert difference(found["vectors"], expected(codebase, "base")) > 1e-3


@codebases
def test_vanilla_clip_is_still_vanilla_and_wrong_weights_are_seen(codebase, probed, expected):
    tolerance = 2e-2 if codebase == "mdm" else 1e-4  # MDM computes in half precision, whatever it is given
    for found in probed(codebase, "vanilla"):
        assert difference(found["vectors"], expected(codebase, "base")) < tolerance
        assert difference(found["vectors"], expected(codebase, "adapter")) > 2 * tolerance
    for found in probed(codebase, "other"):
        assert difference(found["vectors"], expected(codebase, "other")) < 1e-5
        assert difference(found["vectors"], expected(codebase, "adapter")) > 1e-3


@codebases
def test_all_ways_in_train_the_same_generator_and_vanilla_another(codebase, probed):
    patched = probed(codebase, "patch")
    for way in WAYS[1:]:
        for ours, theirs in zip(patched, probed(codebase, way), strict=True):
            assert difference(ours["output"], theirs["output"]) < 1e-5
    for ours, vanilla, other in zip(patched, probed(codebase, "vanilla"), probed(codebase, "other"), strict=True):
        assert difference(ours["output"], vanilla["output"]) > 1e-4
        assert difference(ours["output"], other["output"]) > 1e-4
        assert difference(ours["output"], ours["after"]) > 1e-4  # the step did something


@codebases
@pytest.mark.parametrize("way", WAYS)
def test_training_leaves_the_encoder_alone_and_out_of_checkpoints(codebase, way, probed):
    for found, vanilla in zip(probed(codebase, way), probed(codebase, "vanilla"), strict=True):
        assert torch.equal(found["vectors_after"], found["vectors"])
        assert found["own_keys"] == vanilla["own_keys"]
        assert sorted(found["checkpoint"]) == found["own_keys"]
        assert vanilla["encoder_keys"]
        if (codebase, way) != ("salad", "launch"):  # there transformers' own model is loaded, frozen by SALAD
            assert found["encoder_parameters"] == []
            assert found["encoder_keys"] == []
            assert torch.equal(found["vectors_average"], found["vectors"])


@codebases
@pytest.mark.shows("{codebase}: record and guard")
@pytest.mark.parametrize(
    ("running", "trained"),
    [("patch", "patch"), ("patch", "launch"), ("patch", "vanilla"), ("vanilla", "patch"), ("other", "patch")],
)
def test_checkpoints_load_under_their_own_encoder_only(codebase, running, trained, probed):
    same = {running, trained} <= set(WAYS)
    for found in probed(codebase, running, trained):
        if same:
            assert found["loading"] == "loaded"
        else:
            assert "This checkpoint was trained with" in found["loading"]


def test_mdms_cut_is_said(probed, expected):
    (found,) = probed("mdm", "patch")
    assert any("cut at 22 tokens: 1 of these 1 lose" in said for said in found["said"])
    assert difference(found["long"], expected("mdm", "adapter", (LONG,))) > 1e-3
    for found in probed("momask", "patch"):
        assert not any("cut at" in said for said in found["said"])
        assert difference(found["long"], expected("momask", "adapter", (LONG,))) < 1e-5
