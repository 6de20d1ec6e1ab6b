"""Workers that Python starts from new get what the launcher gave the script; forked ones inherit it."""

from __future__ import annotations

import multiprocessing.spawn
import os
import pickle
import subprocess
import sys

import pytest
import torch
from adaclip_integrations import workers

from adaclip import AdaCLIP
from tests.adaclip.openai_reference import adapted, save_base
from tests.helpers import FLOAT32, deviation

PROMPTS = ["a person walks", "a person jumps twice, then waves slowly"]
SCRIPT = f"""
import clip
import numpy as np
import torch

WIDE = np.float  # gone from numpy, at the top of a module that workers import


class Prompts(torch.utils.data.Dataset):
    def __init__(self):
        self.model = None

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.model is None:
            self.model, _ = clip.load("ViT-B/32", device=torch.device("cuda"), jit=False)
        return self.model.encode_text(clip.tokenize({PROMPTS!r}[index]))[0]


if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Prompts(), batch_size=2, num_workers=1, multiprocessing_context="spawn")
    torch.save(next(iter(loader)), "out.pt")
"""


def test_the_setup_is_repeated_where_its_data_arrives(monkeypatch):
    done = []
    monkeypatch.setattr(workers, "set_up", lambda setup, undo, in_worker: done.append((setup, in_worker)))
    setup = workers.Setup("adapter", None, ("a:b",), (), ("name",), compat=True, cpu=False)
    with workers.reached(setup):
        sent = multiprocessing.spawn.get_preparation_data("worker")
    pickle.loads(pickle.dumps(sent["adaclip"]))
    assert done == [(setup, True)]
    assert next(iter(sent)) == "adaclip"  # before the script is imported
    assert "adaclip" not in multiprocessing.spawn.get_preparation_data("worker")


@pytest.mark.slow
def test_spawned_workers_are_served(tmp_path):
    adapted(save_base(tmp_path / "clip-vit-base-patch32")).save_pretrained(tmp_path / "adapter")
    (tmp_path / "train.py").write_text(SCRIPT)
    options = ["--cpu", "--compat", "--weights", "adapter"]
    command = [sys.executable, "-m", "adaclip_integrations.launch", *options, "train.py"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "clip.load('ViT-B/32') is served by AdaCLIP" in done.stderr  # by the worker: the script loads nothing
    expected = AdaCLIP.from_pretrained(tmp_path / "adapter").encode(PROMPTS)
    assert deviation(torch.load(tmp_path / "out.pt"), expected) < FLOAT32
    assert not list(tmp_path.glob("adaclip-run-*"))
