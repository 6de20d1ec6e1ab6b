"""A copy of a real checkout with what its scripts insist on: a data set, word vectors, evaluators with random weights.

Nothing of the codebases is here: what they read is described in integrations/*.md.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCHER = ("-m", "adaclip_integrations.launch", "--cpu")
SPLITS = ("train", "val", "test")
SHORT = 44  # frames; HumanML3D has at least 40
VARIABLES = {"mdm": "ADACLIP_MDM", "momask": "ADACLIP_MOMASK", "salad": "ADACLIP_SALAD"}


def checkout_of(codebase: str) -> Path:
    """The checkout that the environment names; skips with the reason when there is none."""
    variable = f"ADACLIP_{codebase.upper().replace('-', '_')}"
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} is not set: give the folder of a checkout of {codebase} to test against it")
    if not Path(folder).is_dir():
        pytest.fail(f"{variable}={folder}: no such folder")
    return Path(folder)


def copy_of(codebase: str, folder: Path) -> Path:
    """A copy of the checkout, with its git history, as it was committed."""
    subprocess.run(["git", "clone", "-q", str(checkout_of(codebase)), str(folder)], check=True)
    return folder


def equip(root: Path, data: Path, base: Path, words: set[str], judged: int | None = None) -> Path:
    """Puts beside the scripts what they read at the start.

    data: HumanML3D layout; base: a CLIP folder for SALAD; judged: clips of the splits that evaluations read. Those of
    the test split are cut short, because the protocols generate motions of their lengths some thousand times.
    """
    (root / "dataset").mkdir(exist_ok=True)
    shutil.copytree(data, root / "dataset" / "HumanML3D", dirs_exist_ok=True)
    lower_case = root / "dataset" / "humanml3d"  # SALAD's name for it
    if not lower_case.exists():
        lower_case.symlink_to("HumanML3D")
    clips = (data / "all.txt").read_text().splitlines(keepends=True)
    splits = (
        {"train": clips, "val": clips[-judged:], "test": clips[:judged]} if judged else dict.fromkeys(SPLITS, clips)
    )
    for split, listed in splits.items():  # their evaluations want some hundred clips, whichever
        (root / "dataset" / "HumanML3D" / f"{split}.txt").write_text("".join(listed))
    for name in map(str.strip, clips[:judged] if judged else ()):
        for folder in ("new_joints", "new_joint_vecs"):
            motion = root / "dataset" / "HumanML3D" / folder / f"{name}.npy"
            np.save(motion, np.load(motion)[:SHORT])
    glove = root / "glove"
    glove.mkdir(exist_ok=True)
    listed = [*sorted(words | {"sos", "eos"}), "unk"]
    np.save(glove / "our_vab_data.npy", np.random.default_rng(0).normal(size=(len(listed), 300)).astype(np.float32))
    (glove / "our_vab_words.pkl").write_bytes(pickle.dumps(listed))
    (glove / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: i for i, word in enumerate(listed)}))
    evaluator = root / "checkpoints" / "t2m" / "Comp_v6_KLD005"
    (evaluator / "meta").mkdir(parents=True, exist_ok=True)
    for name in ("mean", "std"):
        shutil.copy(data / f"{name.title()}.npy", evaluator / "meta" / f"{name}.npy")
    options = {
        "checkpoints_dir": "./checkpoints",
        "dataset_name": "t2m",
        "name": "Comp_v6_KLD005",
        "unit_length": 4,
        "max_text_len": 20,
        "dim_movement_enc_hidden": 512,
        "dim_movement_latent": 512,
        "feat_bias": 5,
    }
    (evaluator / "opt.txt").write_text("".join(f"{name}: {value}\n" for name, value in options.items()))
    networks = root / "checkpoints" / "t2m" / "text_mot_match" / "model" / "finest.tar"
    networks.parent.mkdir(parents=True, exist_ok=True)
    torch.save(evaluator_weights(), networks)
    lengths = root / "checkpoints" / "t2m" / "length_estimator" / "model" / "finest.tar"  # MoMask's
    lengths.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"estimator": length_weights(), "epoch": 0}, lengths)
    clip = root / "checkpoints" / "clip-vit-base-patch32"
    if not clip.exists():
        clip.symlink_to(base)
    return root


def evaluator_weights() -> dict[str, object]:
    """Random weights of the official evaluators' shapes (T2M), under their names."""

    def state(**parts: nn.Module | torch.Tensor) -> dict[str, torch.Tensor]:
        found = {}
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                found |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
            else:
                found[name] = part
        return found

    def head(inside: int, outside: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(2 * inside, inside), nn.LayerNorm(inside), nn.LeakyReLU(), nn.Linear(inside, outside)
        )

    torch.manual_seed(0)
    gap = nn.Identity()  # dropout and activations have no weights, and count in the numbering
    return {
        "movement_encoder": state(
            main=nn.Sequential(nn.Conv1d(259, 512, 4), gap, gap, nn.Conv1d(512, 512, 4), gap, gap),
            out_net=nn.Linear(512, 512),
        ),
        "text_encoder": state(
            pos_emb=nn.Linear(15, 300),
            input_emb=nn.Linear(300, 512),
            gru=nn.GRU(512, 512, batch_first=True, bidirectional=True),
            output_net=head(512, 512),
            hidden=torch.randn(2, 1, 512),
        ),
        "motion_encoder": state(
            input_emb=nn.Linear(512, 1024),
            gru=nn.GRU(1024, 1024, batch_first=True, bidirectional=True),
            output_net=head(1024, 512),
            hidden=torch.randn(2, 1, 1024),
        ),
        "epoch": 0,
    }


def length_weights() -> dict[str, torch.Tensor]:
    """Random weights of the shapes of MoMask's length estimator, under their names."""
    gap = nn.Identity()
    widths = zip((512, 512, 256), (512, 256, 128), ((gap, gap), (gap, gap), (gap,)), strict=True)
    layers = [layer for a, b, gaps in widths for layer in (nn.Linear(a, b), nn.LayerNorm(b), *gaps)]
    return {f"output.{key}": value for key, value in nn.Sequential(*layers, nn.Linear(128, 50)).state_dict().items()}


def words_of(data: Path) -> set[str]:
    """Words of all captions of a data set."""
    lines = (line for path in (data / "texts").glob("*.txt") for line in path.read_text().splitlines() if line)
    return {token.partition("/")[0] for line in lines for token in line.split("#")[1].split()}


def run(root: Path, command: list[str], *, timeout: int = 1200, **environment: str) -> subprocess.CompletedProcess:
    """A command in the checkout, with this project importable; fails with the end of what it said."""
    settings = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(root), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, *command], cwd=root, env=settings, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


def keys_of(checkpoint: object) -> list[str]:
    """All keys of all state dicts in a checkpoint."""
    if not isinstance(checkpoint, dict):
        return []
    return [key for key, value in checkpoint.items() if isinstance(key, str)] + [
        key for value in checkpoint.values() for key in keys_of(value)
    ]


def notes_in(folder: Path) -> dict[str, dict]:
    """What the notes under a folder say of each checkpoint."""
    return {
        name: record
        for note in folder.rglob("adaclip_encoder.json")
        for name, record in json.loads(note.read_text()).items()
    }
