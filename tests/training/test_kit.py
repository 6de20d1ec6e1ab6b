"""KIT-ML's bodies: 21 joints, 251 features."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adaqf_train.cli import main
from adaqf_train.config import DataConfig
from adaqf_train.data.dataset import MotionDataset
from tests.helpers import settings_of, write_clips


@pytest.fixture
def kit_data(tmp_path):
    folder = write_clips(tmp_path / "kit", {f"{i:05d}": 26 + 3 * i for i in range(24)}, features=251)
    names = sorted(path.stem for path in (folder / "texts").iterdir())
    for split, chosen in (("val", names[:8]), ("test", names[8:16])):
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in chosen))
    return folder


def test_the_recipe_trains_at_tiny_size(kit_data, tiny_config, tmp_path):
    """Clips shorter than HumanML3D's 40 frames are among them."""
    config = replace(tiny_config, data=DataConfig(min_frames=24))
    assert len(MotionDataset(kit_data, "train", config.data)) > len(MotionDataset(kit_data, "train"))
    out = tmp_path / "run"
    command = ["train", "--arm", "adaqf", "--recipe", "kit", "--data", str(kit_data), "--out", str(out)]
    assert main([*command, *settings_of(config)]) == 0
    losses = [json.loads(line) for line in (out / "logs" / "adaqf.jsonl").read_text().splitlines()]
    assert [line["step"] for line in losses] == list(range(1, 7))
    assert len({line["loss"] for line in losses}) == 6
    assert json.loads((out / "adaqf" / "config.json").read_text())["features"] == 251
