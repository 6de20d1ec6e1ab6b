"""The yardsticks beside the ground truth: halves that share no clip, and a denoiser's x̂0 of real motions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adaqf_train.evaluation import floor, protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.motion.physics import MEASURES
from tests.evaluation.oracle import CONFIG, Oracle


@pytest.fixture(scope="module")
def oracle(tiny_train) -> Judges:
    return Judges(Oracle(tiny_train))


def test_disjoint_halves_share_no_clip():
    keys = [f"{name}#{part}" for name in "abcdefg" for part in range(3)] + ["Ma#0", "Mb", "M", "solo"]
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = floor.disjoint_halves(keys, rng)
        assert len(first) == len(second) > 8
        clips = [{keys[row].partition("#")[0].removeprefix("M") for row in half} for half in (first, second)]
        assert not clips[0] & clips[1]
        assert not {*first} & {*second}
    assert floor.disjoint_halves(["Mary", "ary2"], rng)[0] != []  # a name with an M is no mirrored copy


def test_floor_is_above_the_ground_truth_and_repeatable(tiny_train, oracle):
    """Other crops of the same clips are closer than other clips."""
    truth = protocol.evaluate(None, tiny_train, oracle, CONFIG)
    found = floor.evaluate_floor(tiny_train, oracle, CONFIG)
    assert set(truth) - {"minimal_pairs"} <= set(found) | {n for n in truth if n.startswith(("attribute", "coverage"))}
    assert found["fid"]["mean"] > 2 * truth["fid"]["mean"]
    assert found["fid"]["mean"] > found["fid_infinity"]["mean"]
    assert floor.evaluate_floor(tiny_train, oracle, CONFIG) == found


def test_floor_of_parts_of_one_clip_is_empty(tiny_train, oracle, monkeypatch):
    monkeypatch.setattr(tiny_train, "items", [replace(item, key="walk#1") for item in tiny_train.items])
    assert floor.evaluate_floor(tiny_train, oracle, CONFIG) == {}


def test_denoised_compares_with_the_reference_of_the_models(tiny_train, oracle):
    few = protocol.RealSets([item.vectors for item in tiny_train.items[:8]], tiny_train)
    scored = [
        floor.evaluate_denoised(lambda motions, *_: motions, tiny_train, oracle, CONFIG, sets=sets)
        for sets in (few, None)
    ]
    assert scored[0]["fid"]["mean"] > 2 * scored[1]["fid"]["mean"]
    assert scored[0]["jerk"] == scored[1]["jerk"]


def test_evaluate_denoised_scores_what_the_denoiser_returns(tiny_train, oracle):
    asked = []

    def perfect(motions, captions, seed):
        asked.append(seed)
        assert len(motions) == len(captions)
        return motions

    truth = protocol.evaluate(None, tiny_train, oracle, CONFIG)
    found = floor.evaluate_denoised(perfect, tiny_train, oracle, CONFIG)
    assert {name: found[name] for name in MEASURES} == {name: truth[name] for name in MEASURES}
    assert found["fid"] == truth["fid"]
    assert asked == [(CONFIG.seed, replication) for replication in range(CONFIG.replications)]
    blurred = floor.evaluate_denoised(lambda motions, *_: [0.9 * m for m in motions], tiny_train, oracle, CONFIG)
    assert blurred["jerk"]["mean"] > truth["jerk"]["mean"]


def test_denoised_predicts_each_motion_by_itself(tiny_run, tiny_train):
    """The order and the other motions do not matter; the prompt, the seed and the real frames do."""
    generator = MotionGenerator.from_pretrained(tiny_run / "adaqf")
    generator.sampling = generator.sampling.__class__(**{**vars(generator.sampling), "batch": 3})
    items = tiny_train.items[:5]
    motions = [item.vectors[: len(item.vectors) // 4 * 4] for item in items]
    captions = [item.captions[0] for item in items]
    found = generator.denoised(motions, captions)
    assert [x.shape for x in found] == [x.shape for x in motions]
    alone = generator.denoised(motions[:1], captions[:1])[0]
    scale = tiny_train.std * np.ones_like(alone)
    assert np.abs((found[0] - alone) / scale).max() < 1e-3
    for motion, caption, seed in (
        (motions[0], "other words entirely", (0,)),
        (motions[0], captions[0], (1,)),
        (motions[0] + tiny_train.std, captions[0], (0,)),
    ):
        other = generator.denoised([motion.astype(np.float32)], [caption], seed=seed)[0]
        assert np.abs((other - alone) / scale).max() > 1e-4
