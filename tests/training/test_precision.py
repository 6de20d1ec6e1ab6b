"""bfloat16 trains as float32 does: the losses of 200 steps stay within 2 %."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from adaqf_train.config import override
from adaqf_train.generators.mdm.objective import fit_adaqf
from adaqf_train.training.loop import Place

STEPS, CONTROL, WINDOW = 200, 40, 20
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_follows_the_loss_of_float32(
    device, accelerator_of, tiny_train, base, tiny_config, make_extractors, tmp_path
):
    config = override(tiny_config, ["training.checkpoint_every=1000", "denoiser.dropout=0"])

    def curve(precision: str, seed: int = 0, steps: int = STEPS) -> dict[str, np.ndarray]:
        place = Place(tmp_path / f"{device}-{precision}-{seed}.jsonl")
        own = replace(config, training=replace(config.training, seed=seed, steps=steps))
        judge = make_extractors(own)
        fit_adaqf(accelerator_of(device, precision), tiny_train, str(base), judge, own, place)
        lines = [json.loads(line) for line in place.log.read_text().splitlines()]
        assert len(lines) == steps
        parts = {name: [line[name] for line in lines] for name in ("loss", "mse")}
        return {name: np.convolve(part, np.ones(WINDOW) / WINDOW, "valid") for name, part in parts.items()}

    whole, half, other = curve("no"), curve("bf16"), curve("no", seed=1, steps=CONTROL)
    for name in whole:
        assert np.abs(half[name] / whole[name] - 1).max() < 0.02, name
    assert np.abs(half["loss"] - whole["loss"]).max() > 0  # the precision was another
    start = whole["loss"][: len(other["loss"])]
    assert np.abs(other["loss"] / start - 1).max() > 0.02  # the measure is sharp enough to tell runs apart
