"""Against checkouts of the codebases of the table: their own code reads AdaCLIP's vectors, launched and edited.

Their location comes from $ADACLIP_MARDM, $ADACLIP_T2M_GPT and so on; without it these tests are skipped.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch
from adaclip_integrations.codebases import TABLE
from torch import nn

from adaclip import AdaCLIP
from tests.integrations.field import LAUNCHER, checkout_of, copy_of, run
from tests.integrations.probe import PROMPTS

PROBE = Path(__file__).with_name("probe_table.py")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expected(request):
    @cache
    def vectors(name: str, states: bool) -> torch.Tensor:
        models = request.getfixturevalue("models")
        base = models / "bases" / "clip-vit-base-patch32"
        encoder = AdaCLIP.from_base(base) if name == "base" else AdaCLIP.from_pretrained(models / name, base=base)
        if not states:
            return encoder.encode(PROMPTS)
        found = encoder.encode(PROMPTS, output="tokens")
        tokens = found.tokens * found.mask[..., None]
        return nn.functional.pad(tokens, (0, 0, 0, 77 - tokens.shape[1]))

    return vectors


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.dim() == 3:  # padding differs, and their attention may read it: real tokens are compared
        found = found * expected.abs().sum(-1, keepdim=True).gt(0)
    return float((found - expected).abs().max())


@pytest.mark.shows("{name}: launcher", "{name}: edit", "{name}: record and guard")
@pytest.mark.parametrize("name", TABLE)
def test_their_own_code_reads_adaclip_and_its_checkpoints_are_guarded(name, request, expected, tmp_path):
    checkout_of(name)
    models = request.getfixturevalue("models")
    root = copy_of(name, tmp_path / "checkout")
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    launched = run(root, [*LAUNCHER, "--compat", "--weights", str(models / "adapter"), str(PROBE), str(first), name])
    assert "is served by AdaCLIP" in launched.stderr
    TABLE[name].apply(root, str(models / "other"))
    run(root, [*LAUNCHER, "--compat", str(PROBE), str(second), name, f"{first}.pth"])
    TABLE[name].revert(root)
    status = subprocess.run(
        ["git", "-C", root, "status", "--short", "-uno"], capture_output=True, text=True, check=True
    )
    assert status.stdout == ""
    states = TABLE[name].reads == "states"
    for path, ours, others in ((first, "adapter", ("other", "base")), (second, "other", ("adapter", "base"))):
        found = torch.load(path)
        assert distance(found["vectors"], expected(ours, states)) < 1e-5
        for other in others:
            assert distance(found["vectors"], expected(other, states)) > 1e-3
        assert found["keys"] == []
        assert found["own"] == "loaded"
    assert torch.load(second)["other"].startswith("OtherEncoderError: This checkpoint was trained with AdaCLIP sha256")
