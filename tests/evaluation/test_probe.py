"""The probe tells judges that can be exploited from those that cannot."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from adaqf_train.evaluation.probe import probe
from adaqf_train.judges.base import Evaluator, Judge
from adaqf_train.motion.skeleton import HUMANML3D

FRAMES, COUNT = 16, 12


class Linear(Judge):
    """A judge that looks at some features of a motion's mean, and has a text vector for each caption."""

    width = 4

    def __init__(self, features: slice, seed: int = 0) -> None:
        super().__init__()
        weight = torch.zeros(263, 4)
        weight[features] = torch.randn(weight[features].shape, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)
        self.seen: list = []

    def embed_motion(self, motion, mask):
        return (motion * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True) @ self.weight

    def embed_text(self, ids, mask):
        return ids[:, :4].float()


class Numbers:
    """A tokenizer of captions that are numbers."""

    pad_token_id, model_max_length = 0, 77


def judge_of(features: slice, seed: int = 0) -> Evaluator:
    judge = Evaluator(Linear(features, seed), Numbers(), np.zeros(263, np.float32), np.ones(263, np.float32))
    directions = np.random.default_rng(5).standard_normal((COUNT, 4))
    judge.embed_texts = lambda texts: np.array([directions[int(text)] for text in texts])
    return judge


@pytest.fixture
def motions() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 0.01, (COUNT, FRAMES, 263)), axis=1)
    return list(smooth.astype(np.float32))


CAPTIONS = [str(number) for number in range(COUNT)]


def test_judges_that_agree_share_the_whole_gain(motions):
    judge = judge_of(slice(0, 60))
    found = probe(judge, judge, CAPTIONS, motions, HUMANML3D)
    assert found.judge[1] > found.judge[0] + 0.1
    assert found.share == pytest.approx(1)


def test_judge_of_features_that_the_evaluator_ignores_is_exploited(motions):
    found = probe(judge_of(slice(193, 250)), judge_of(slice(4, 60)), CAPTIONS, motions, HUMANML3D)
    assert found.judge[1] > found.judge[0] + 0.1
    assert found.share == pytest.approx(0, abs=1e-6)
    assert found.jerk_ratio == pytest.approx(1, abs=1e-4)  # local velocities move no joint
    assert not found.passes


def test_step_has_the_stated_size_and_leaves_padding_alone(motions):
    from adaqf_train.evaluation.probe import _moved

    motions[0] = motions[0][:8]
    moved = _moved(judge_of(slice(0, 60)), CAPTIONS, motions, 0, 0.138)
    for before, after in zip(motions, moved, strict=True):
        assert after.shape == before.shape
        assert np.sqrt(np.square(after - before).mean()) == pytest.approx(0.138, rel=1e-4)


def test_trembling_step_is_seen_in_the_jerk(motions):
    found = probe(judge_of(slice(4, 60)), judge_of(slice(4, 60)), CAPTIONS, motions, HUMANML3D, size=0.5)
    assert found.jerk[0] > 0
    still = probe(judge_of(slice(193, 250)), judge_of(slice(4, 60)), CAPTIONS, motions, HUMANML3D, size=0.5)
    assert still.jerk[0] == pytest.approx(found.jerk[0])


def test_probe_verb_prints_both_judges_and_a_verdict(tiny_run, capsys):
    from adaqf_train.cli import main

    code = main(["probe", "--run", str(tiny_run), "--samples", "16"])
    printed = capsys.readouterr().out
    assert code == (0 if "The judge passes" in printed else 3)
    assert "| evaluator, mean cosine |" in printed
    assert "mean jerk" in printed
