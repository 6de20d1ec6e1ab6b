"""Forgetting: similarity structure on general prompts, and still poses."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from adaqf_train.config import PocketClipConfig
from adaqf_train.encoders.pocket_clip import StillPoseClip, pose_slice
from adaqf_train.evaluation.forgetting import GENERAL_PROMPTS, kept_structure, still_pose_retrieval

N, E = 40, 6


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def base(rng) -> np.ndarray:
    return rng.standard_normal((N, E))


def test_kept_structure_of_a_copy_a_scale_and_a_rotation_is_complete(base, rng):
    for value in kept_structure(base, base).values():
        assert value == pytest.approx(1)
    rotation, _ = np.linalg.qr(rng.standard_normal((E, E)))
    turned = kept_structure(base, 3 * base @ rotation)
    for name in ("spearman", "pearson", "cka"):
        assert turned[name] == pytest.approx(1)
    assert turned["cosine"] < 0.9  # the place in space is another, which an image tower would notice


def test_kept_structure_decreases_with_noise(base, rng):
    noise = rng.standard_normal((N, E))
    slightly, much, all_of_it = (kept_structure(base, base + scale * noise) for scale in (0.2, 1.0, 1e3))
    for name in ("spearman", "pearson", "cka", "cosine"):
        assert 1 > slightly[name] > much[name] > all_of_it[name]
    assert abs(all_of_it["spearman"]) < 0.2


def test_kept_structure_correlates_the_cosines_of_all_pairs(base, rng):
    adapted = rng.standard_normal((N, 4))
    cosines = [np.corrcoef(np.c_[x, -x])[np.triu_indices(N, k=1)] for x in (base, adapted)]  # mean zero: cosines
    kept = kept_structure(base, adapted)
    assert kept["spearman"] == pytest.approx(spearmanr(*cosines).statistic)
    assert kept["pearson"] == pytest.approx(np.corrcoef(*cosines)[0, 1])
    assert "cosine" not in kept  # of another width


def test_kept_structure_cka_equals_that_of_its_kernels(base, rng):
    adapted = base @ rng.standard_normal((E, 3))
    centre = np.eye(N) - 1 / N
    one, two = (centre @ x @ x.T @ centre for x in (base, adapted))
    expected = (one * two).sum() / np.sqrt((one * one).sum() * (two * two).sum())
    assert kept_structure(base, adapted)["cka"] == pytest.approx(expected)


def test_kept_structure_of_a_collapsed_encoder_is_zero(base):
    kept = kept_structure(base, np.ones((N, E)))
    assert kept["spearman"] == kept["pearson"] == kept["cka"] == 0


def test_kept_structure_refuses_embeddings_that_are_no_pairs(base):
    for other in (base[:-1], base[0]):
        with pytest.raises(ValueError, match="N >= 3"):
            kept_structure(base, other)


def test_general_prompts_are_a_hundred_different_ones_without_motion():
    assert len(GENERAL_PROMPTS) == len(set(GENERAL_PROMPTS)) == 100
    words = {word for prompt in GENERAL_PROMPTS for word in prompt.lower().split()}
    assert not words & {"person", "man", "woman", "walks", "walking", "runs", "jumps", "turns", "waves", "kicks"}


def test_still_pose_retrieval_distinguishes_an_oracle_from_guessing(tiny_train):
    """Clips that hold a pose, an oracle that encodes captions as the tower does their pose, and one that guesses."""
    held = copy.copy(tiny_train)
    held.items = [replace(item, vectors=item.vectors[len(item.vectors) // 2 :][:1]) for item in tiny_train.items]
    torch.manual_seed(0)
    width = pose_slice(263).stop - pose_slice(263).start
    sizes = CLIPTextConfig(
        vocab_size=10, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, projection_dim=16
    )
    towers = StillPoseClip(
        CLIPTextModelWithProjection(sizes), width, PocketClipConfig(width=16, heads=4, projection=16)
    )
    towers = towers.eval()
    poses = {
        caption: held.normalise(item.vectors[0])[pose_slice(263)] for item in held.items for caption in item.captions
    }

    @torch.no_grad()
    def oracle(captions):
        return towers.pose(torch.from_numpy(np.stack([poses[caption] for caption in captions]))).numpy()

    def ignorant(captions):
        return np.random.default_rng(0).standard_normal((len(captions), 16))

    knows, guesses = (still_pose_retrieval(encode, towers, held) for encode in (oracle, ignorant))
    for way in ("text_to_motion", "motion_to_text"):
        assert knows[way]["r1"] > 0.8
        assert guesses[way]["r1"] < 0.2
    assert still_pose_retrieval(oracle, towers, held) == knows
