"""The official evaluators as the judge of the feedback: they embed as they do in scoring, differentiably."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adaqf_train.cli import main
from adaqf_train.config import RunConfig, override
from adaqf_train.data.batches import pad
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.errors import ConfigError
from adaqf_train.judges.official import GRUSummary, MovementEncoder, OfficialJudge, TextEncoder, load_official
from adaqf_train.layers import freeze
from tests.helpers import FLOAT32, deviation, settings_of

WORDS = ["sos", "eos", "unk", "a", "person", "walk", "left", "slowly", "chair"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Files in the layout of the official ones, with random weights."""
    folder = tmp_path_factory.mktemp("official")
    model = folder / "t2m" / "text_mot_match" / "model"
    model.mkdir(parents=True)
    torch.manual_seed(0)
    parts = {
        "movement_encoder": MovementEncoder(259),
        "motion_encoder": GRUSummary(512, 1024),
        "text_encoder": TextEncoder(),
    }
    torch.save({name: module.state_dict() for name, module in parts.items()}, model / "finest.tar")
    glove = folder / "glove"
    glove.mkdir()
    np.save(glove / "our_vab_data.npy", np.random.default_rng(0).standard_normal((len(WORDS), 300)))
    (glove / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS))
    (glove / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: i for i, word in enumerate(WORDS)}))
    return folder


@pytest.fixture(scope="module")
def data(tiny_data, tmp_path_factory) -> Path:
    """A data set whose words have parts of speech, and evaluators' statistics that are not its own."""
    folder = shutil.copytree(tiny_data, tmp_path_factory.mktemp("tagged") / "HumanML3D")
    for path in (folder / "texts").glob("*.txt"):
        path.write_text(path.read_text().replace("walks/OTHER", "walk/VERB").replace("person/OTHER", "person/NOUN"))
    np.save(folder.parent / "t2m_mean.npy", np.load(folder / "Mean.npy") + 0.1)
    np.save(folder.parent / "t2m_std.npy", np.load(folder / "Std.npy") / 5)
    return folder


@pytest.fixture(scope="module")
def dataset(data) -> MotionDataset:
    return MotionDataset(data, "train")


def test_official_judge_embeds_as_the_evaluators_do(files, data, dataset):
    judge, evaluator = OfficialJudge.load(files, dataset), load_official(files, data)
    clips = [item.vectors[: len(item.vectors) // 4 * 4] for item in dataset.items[:5]]
    captions = [item.captions[0] for item in dataset.items[:5]]
    expected = evaluator.embed_motions(clips)
    motion, mask = pad([dataset.normalise(clip) for clip in clips])
    np.testing.assert_allclose(judge.embed_motion(motion, mask).detach(), expected, atol=1e-4)
    assert deviation(judge.embed_captions(SimpleNamespace(texts=captions)), evaluator.embed_texts(captions)) < FLOAT32
    wrong = OfficialJudge(evaluator, evaluator.mean, evaluator.std)  # control: without the way between the statistics
    assert np.abs(wrong.embed_motion(motion, mask).detach().numpy() - expected).max() > 1e-2


def test_official_judge_passes_gradients_to_real_frames_only(files, dataset):
    judge = freeze(OfficialJudge.load(files, dataset))
    frozen = {name: value.clone() for name, value in judge.state_dict().items()}
    motion, mask = pad(
        [dataset.normalise(item.vectors[:length]) for item, length in zip(dataset.items[:2], (40, 32), strict=True)]
    )
    motion = motion + 5 * ~mask[..., None]
    alone = judge.embed_motion(motion[1:, :32], mask[1:, :32])
    motion.requires_grad_()
    embedding = judge.embed_motion(motion, mask)
    assert deviation(embedding[1:], alone) < FLOAT32  # not what is behind a clip counts
    embedding.sum().backward()
    assert motion.grad[mask].abs().sum() > 0
    assert motion.grad[~mask].abs().sum() == 0
    assert motion.grad[..., -4:].abs().sum() == 0  # foot contacts are not looked at
    assert all(p.grad is None for p in judge.parameters())
    assert all(torch.equal(value, frozen[name]) for name, value in judge.state_dict().items())


def test_official_judge_gives_the_feedback_of_a_run(files, data, tiny_config, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "--arm", "adaqf", "--recipe", "pocket", "--data", str(data), "--out", str(out)]
    command += [*settings_of(tiny_config, training__steps=2), "--set", "feedback.judge=official", "--set"]
    assert main([*command, f"feedback.official={files}"]) == 0
    stages = json.loads((out / "stages.json").read_text())
    assert "extractors" not in stages
    assert stages["adaqf"]["settings"]["feedback"]["judge"] == "official"
    assert str(files) not in json.dumps(stages)  # what they are counts, not where
    losses = [json.loads(line) for line in (out / "logs" / "adaqf.jsonl").read_text().splitlines()]
    assert all(line["motion"] > 0 and line["text"] > 0 for line in losses)
    moved = shutil.copytree(files, tmp_path / "elsewhere")
    assert main([*command, f"feedback.official={moved}"]) == 0
    assert json.loads((out / "stages.json").read_text()) == stages
    capsys.readouterr()
    assert main([*command, f"feedback.official={data}"]) == 1
    assert "finest.tar" in capsys.readouterr().err


def test_official_judge_needs_a_folder():
    with pytest.raises(ConfigError, match="needs the folder of the official evaluators' files"):
        override(RunConfig(), ["feedback.judge=official"])
