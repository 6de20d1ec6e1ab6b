"""The protocol: equal draws for every model, correct counts, and figures that respond to defects of motions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adaqf_train.config import EvaluationConfig
from adaqf_train.errors import ConfigError, DataError
from adaqf_train.evaluation import metrics, protocol
from adaqf_train.evaluation.embedder import Judges
from adaqf_train.evaluation.manifest import data_counts
from adaqf_train.motion.features import Slices, decode, encode
from adaqf_train.motion.physics import MEASURES
from adaqf_train.motion.skeleton import HUMANML3D
from tests.evaluation.oracle import CONFIG, Oracle, WithUnseen, copying

SLICES = Slices.of(HUMANML3D)
DISTANCES = ("fid", "fid_infinity", "fid_normalised", "kid")
LEARNED = {*DISTANCES, "r_precision_1", "r_precision_2", "r_precision_3", "mm_dist", "diversity", "minimal_pairs"}
PHYSICAL = {*MEASURES, "skating_unmasked", "acceleration", "jerk"}


@pytest.fixture(scope="module")
def oracle(tiny_train) -> Judges:
    return Judges(Oracle(tiny_train))


def test_evaluate_gives_all_metrics_with_intervals(tiny_train, oracle):
    for generate in (None, copying(tiny_train, CONFIG)):
        row = protocol.evaluate(generate, tiny_train, oracle, CONFIG)
        attributes = {name for name in row if name.startswith(("attribute_", "coverage_"))}
        assert set(row) - attributes == LEARNED | PHYSICAL
        assert {"attribute_side", "coverage_side", "attribute_count"} <= attributes
        assert all(set(cell) == {"mean", "ci95"} for cell in row.values())
        assert all(np.isfinite(list(cell.values())).all() for cell in row.values())


def test_evaluate_distinguishes_a_perfect_from_a_confused_model(tiny_train, oracle):
    perfect = protocol.evaluate(copying(tiny_train, CONFIG), tiny_train, oracle, CONFIG)
    copy = copying(tiny_train, CONFIG)

    def confused(captions, lengths, seed):
        return copy(captions[1:] + captions[:1], lengths, seed)

    def sliding(captions, lengths, seed):
        motions = [m.copy() for m in copy(captions, lengths, seed)]
        for motion in motions:
            motion[:, 2] += 0.1  # metres per frame forward, feet and all
        return motions

    wrong = protocol.evaluate(confused, tiny_train, oracle, CONFIG)
    assert perfect["r_precision_1"]["mean"] > 0.9
    assert wrong["r_precision_1"]["mean"] < 0.3
    assert wrong["mm_dist"]["mean"] > 2 * perfect["mm_dist"]["mean"]
    slid = protocol.evaluate(sliding, tiny_train, oracle, CONFIG)
    assert perfect["attribute_side"]["mean"] > 0.9
    assert wrong["attribute_side"]["mean"] < 0.7
    assert slid["skating"]["mean"] > perfect["skating"]["mean"] + 0.3


def test_evaluate_physical_figures_respond_to_their_own_damage(tiny_train, oracle):
    """Each is moved by its own damage, and by that alone more than threefold among those that the damage spares."""
    copy = copying(tiny_train, CONFIG)
    rng = np.random.default_rng(0)

    def damaged(damage):
        def generate(captions, lengths, seed):
            motions = [m.copy() for m in copy(captions, lengths, seed)]
            for motion in motions:
                damage(motion)
            return motions

        return protocol.evaluate(generate, tiny_train, oracle, CONFIG)

    def sunk(motion):
        motion[:, SLICES.root_height] -= 0.05
        motion[:, SLICES.positions][:, 1::3] -= 0.05

    def lifted(motion):
        motion[:, SLICES.root_height] += 0.3
        motion[:, SLICES.positions][:, 1::3] += 0.3

    def trembling(motion):
        motion[:, SLICES.positions] += 0.01 * rng.standard_normal(motion[:, SLICES.positions].shape)

    real = damaged(lambda motion: None)
    figures = {
        name: {k: row[k]["mean"] for k in PHYSICAL}
        for name, row in (("sunk", damaged(sunk)), ("lifted", damaged(lifted)), ("trembling", damaged(trembling)))
    }
    assert figures["sunk"]["penetration_mm"] > real["penetration_mm"]["mean"] + 30
    assert figures["lifted"]["penetration_mm"] <= real["penetration_mm"]["mean"]
    assert figures["lifted"]["floating_mm"] > real["floating_mm"]["mean"] + 200
    assert figures["sunk"]["floating_mm"] <= real["floating_mm"]["mean"]
    assert figures["sunk"]["deep_penetration_mm"] > real["deep_penetration_mm"]["mean"] + 5
    for name in ("jitter_mm", "bone_change"):
        assert figures["trembling"][name] > 2 * figures["sunk"][name]
        assert figures["lifted"][name] == pytest.approx(real[name]["mean"], abs=1e-3)
    for name in ("acceleration", "jerk"):
        assert figures["trembling"][name] > 1 > figures["sunk"][name]
        assert figures["lifted"][name] == pytest.approx(real[name]["mean"], abs=1e-3)


def test_draw_is_the_same_for_every_model(tiny_train):
    a, b = protocol.draw(tiny_train, CONFIG, 1), protocol.draw(tiny_train, CONFIG, 1)
    assert a.captions == b.captions
    assert a.lengths == b.lengths
    assert protocol.draw(tiny_train, CONFIG, 2).captions != a.captions
    assert protocol.draw(tiny_train, replace(CONFIG, seed=1), 1).captions != a.captions
    assert len(a.captions) == len(tiny_train)
    assert len(protocol.draw(tiny_train, replace(CONFIG, max_samples=9), 1).captions) == 9


def test_evaluate_seeds_replications_apart(tiny_train, oracle):
    seen = []
    copy = copying(tiny_train, CONFIG)

    def generate(captions, lengths, seed):
        seen.append(seed)
        return copy(captions, lengths, seed)

    protocol.evaluate(generate, tiny_train, oracle, CONFIG)
    assert len(set(seen)) == len(seen) == 3


def test_evaluate_resumes_with_the_next_replication(tiny_train, oracle, tmp_path):
    copy, seen = copying(tiny_train, CONFIG), []

    def generate(captions, lengths, seed):
        seen.append(seed)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return copy(captions, lengths, seed)

    progress = tmp_path / "evaluation" / "adaqf.json"
    with pytest.raises(KeyboardInterrupt):
        protocol.evaluate(generate, tiny_train, oracle, CONFIG, progress=progress)
    resumed = protocol.evaluate(generate, tiny_train, oracle, CONFIG, progress=progress)
    assert seen == [(0, 0), (0, 1), (0, 2), (0, 2)]
    assert resumed == protocol.evaluate(copy, tiny_train, oracle, CONFIG)
    assert protocol.evaluate(generate, tiny_train, oracle, CONFIG, progress=progress) == resumed
    assert len(seen) == 4


def test_interval_is_the_fields():
    cell = protocol.interval([1.0, 2.0, 3.0, 4.0])
    assert cell["mean"] == 2.5
    assert cell["ci95"] == pytest.approx(1.96 * np.std([1, 2, 3, 4]) / 2)
    assert protocol.interval([5.0])["ci95"] == 0


def test_sample_counts_state_deviations(tiny_train):
    counts = protocol.sample_counts(tiny_train, EvaluationConfig())
    multimodality = " texts × 30 motions and 10 pairs"
    assert counts == {
        "protocol": "full",
        "samples": len(tiny_train),
        "pool": 32,
        "diversity_pairs": len(tiny_train) // 2,
        "replications": 20,
        "multimodality": {"texts": len(tiny_train), "repeats": 30, "pairs": 10},
        "deviations": [
            "24 pairs for diversity instead of 300",
            f"MultiModality of 48{multimodality} instead of 100{multimodality}",
        ],
        "standard": False,
    }


class Many:
    """As many items as one says."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items


def test_sample_counts_of_the_full_protocol_and_of_few_items():
    assert protocol.sample_counts(Many(4640), EvaluationConfig())["standard"]
    assert protocol.sample_counts(Many(4640), EvaluationConfig(max_samples=1024))["deviations"] == [
        "1,024 samples instead of 4,640"
    ]
    few = protocol.sample_counts(Many(20), EvaluationConfig(multimodality_texts=None))
    assert (few["pool"], few["diversity_pairs"], few["samples"]) == (20, 10, 20)
    assert few["deviations"] == ["pools of 20 instead of 32", "10 pairs for diversity instead of 300"]


def test_sample_counts_of_mdms_protocol():
    config = EvaluationConfig(protocol="mdm1024")
    counts = protocol.sample_counts(Many(4640), config)
    assert (counts["protocol"], counts["samples"], counts["standard"]) == ("mdm1024", 1024, True)
    assert protocol.sample_counts(Many(800), config)["deviations"] == ["800 samples instead of 1,024"]
    with pytest.raises(ConfigError, match="max_samples must be none"):
        replace(config, max_samples=100)


def test_evaluate_by_mdms_protocol_compares_with_all_real_motions(tiny_train, oracle, monkeypatch):
    monkeypatch.setattr("adaqf_train.config.run.MDM_SAMPLES", 16)
    config = replace(CONFIG, protocol="mdm1024", replications=1)
    seen = {}

    def watched(scored, reference, *rest):
        seen["scored"], seen["reference"] = len(scored), len(reference)
        return {"fid": 0.0}

    monkeypatch.setattr(protocol, "score", watched)
    for generate, scored in ((None, len(tiny_train)), (copying(tiny_train, config), 16)):
        protocol.evaluate(generate, tiny_train, oracle, config)
        assert seen == {"scored": scored, "reference": len(tiny_train)}


def test_evaluate_multimodality_takes_several_motions_of_one_prompt(tiny_train, oracle):
    config = replace(CONFIG, replications=2, multimodality_texts=6, multimodality_repeats=5, multimodality_pairs=3)
    copy, asked = copying(tiny_train, config), []

    def generate(captions, lengths, seed):
        asked.append((list(captions), list(lengths), seed))
        return copy(captions, lengths, seed)

    def varied(captions, lengths, seed):
        rng = np.random.default_rng(seed)
        return [m + rng.normal(0, 1, (1, m.shape[1])).astype(np.float32) for m in copy(captions, lengths, seed)]

    row = protocol.evaluate(generate, tiny_train, oracle, config)
    captions, lengths, seed = asked[1]
    assert captions == [c for c in asked[0][0][:6] for _ in range(5)]
    assert lengths == [n for n in asked[0][1][:6] for _ in range(5)]
    assert seed != asked[0][2]
    assert row["multimodality"]["mean"] == 0  # the same motion every time
    assert protocol.evaluate(varied, tiny_train, oracle, config)["multimodality"]["mean"] > 1
    assert "multimodality" not in protocol.evaluate(None, tiny_train, oracle, config)
    assert "multimodality" not in protocol.evaluate(copy, tiny_train, oracle, CONFIG)


def test_evaluate_shuffled_captions_are_at_chance(tiny_train, oracle):
    config = replace(CONFIG, replications=20)
    copy = copying(tiny_train, config)

    def shuffled(captions, lengths, seed):
        order = np.random.default_rng(seed).permutation(len(captions))
        return copy([captions[i] for i in order], lengths, seed)

    row = protocol.evaluate(shuffled, tiny_train, oracle, config)
    for k in (1, 2, 3):
        cell = row[f"r_precision_{k}"]
        assert abs(cell["mean"] - k / config.pool) <= 1.5 * cell["ci95"]
    truth = protocol.evaluate(None, tiny_train, oracle, replace(config, replications=2))
    assert truth["r_precision_1"]["mean"] > 0.9


def test_fid_grows_with_noise_and_with_time_warping(tiny_train):
    """Of features as statistics embed them: each joint's mean speed and spread, which both kinds of damage change."""

    def embed(motion):
        speed = np.abs(motion[:, SLICES.velocities]).mean(axis=0)
        return np.concatenate([speed[::6], motion[:, SLICES.positions].std(axis=0)[::9]]).astype(np.float64)

    real = [item.vectors for item in tiny_train.items]
    rng = np.random.default_rng(0)
    embedded = np.stack([embed(motion) for motion in real])
    assert metrics.fid(embedded, embedded) <= 1e-6

    def noisy(size):
        return [m + size * rng.standard_normal(m.shape) for m in real]

    def warped(power):
        found = []
        for motion in real:
            joints = decode(motion.astype(np.float64))
            time = np.linspace(0, 1, len(joints)) ** power * (len(joints) - 1)
            low = np.floor(time).astype(int)
            high = np.minimum(low + 1, len(joints) - 1)
            share = (time - low)[:, None, None]
            found.append(encode(joints[low] * (1 - share) + joints[high] * share))
        return found

    for damage, sizes in ((noisy, (0.003, 0.01, 0.03, 0.1)), (warped, (1.25, 1.5, 2.0, 3.0))):
        found = [metrics.fid(embedded, np.stack([embed(motion) for motion in damage(size)])) for size in sizes]
        assert found == sorted(found)
        assert found[-1] > 3 * found[0] > 0


def test_evaluate_scores_unseen_combinations_separately(tiny_train, oracle):
    dataset = WithUnseen(tiny_train, every=2)
    row = protocol.evaluate(None, dataset, oracle, CONFIG)
    assert row["unseen_attribute_side"]["mean"] > 0.9
    assert row["unseen_r_precision_1"]["mean"] > 0.9
    copy = copying(tiny_train, CONFIG)

    def lost(captions, lengths, seed):
        """Right of what training shows alone; for the others the body stays as it begins."""
        unseen = {c for item in tiny_train.items[::2] for c in item.captions}
        real = copy(captions, lengths, seed)
        return [np.repeat(m[:1], len(m), axis=0) if c in unseen else m for c, m in zip(captions, real, strict=True)]

    worse = protocol.evaluate(lost, dataset, oracle, CONFIG)
    assert worse["unseen_attribute_side"]["mean"] == 0 < worse["attribute_side"]["mean"]
    few = protocol.evaluate(None, WithUnseen(tiny_train, every=12), oracle, CONFIG)
    assert "unseen_r_precision_1" not in few  # too few for a pool
    assert not any(name.startswith("unseen") for name in protocol.evaluate(None, tiny_train, oracle, CONFIG))
    assert data_counts(dataset)["unseen_items"] == len(tiny_train) // 2


def test_evaluate_refuses_a_split_that_is_too_small(tiny_train, oracle):
    small = type("Few", (), {"items": tiny_train.items[:5], "__len__": lambda self: 5})()
    small.folder, small.split = tiny_train.folder, "val"
    with pytest.raises(DataError, match="has 5 items; evaluation needs at least 8"):
        protocol.evaluate(None, small, oracle, CONFIG)


def test_evaluate_with_sets_compares_with_their_reference_and_scores_unseen_combinations_alone(
    tiny_train, oracle, monkeypatch
):
    held_out = WithUnseen(tiny_train, every=1)
    reference = [item.vectors for item in tiny_train.items[:20]]
    sets, seen = protocol.RealSets(reference, held_out), []
    score, learned = protocol.score, protocol.learned
    monkeypatch.setattr(protocol, "score", lambda *given: seen.append((given[1], given[7])) or score(*given))
    monkeypatch.setattr(protocol, "learned", lambda *given: seen.append((given[2], None)) or learned(*given))
    copy = copying(tiny_train, CONFIG)
    for source in (None, copy):
        seen.clear()
        row = protocol.evaluate(source, tiny_train, oracle, replace(CONFIG, replications=2), sets=sets)
        assert all(given is reference and len(real) == len(tiny_train) for given, real in seen)
        assert {"unseen_fid", "unseen_r_precision_1", "unseen_attribute_side"} <= row.keys()
        assert row["unseen_r_precision_1"]["mean"] > 0.9
        assert row["fid"]["mean"] > row["unseen_fid"]["mean"]  # the reference holds other clips
    seen.clear()
    points = protocol.sketch(copy, tiny_train, oracle, CONFIG, 2, sets=sets)
    assert [given is reference for given, _ in seen] == [True, True]
    assert [point["fid"] for point in points] == pytest.approx([row["fid"]["mean"]] * 2, rel=0.2)


def test_sketch_gives_the_figures_of_evaluate(tiny_train, oracle):
    copy = copying(tiny_train, CONFIG)
    row = protocol.evaluate(copy, tiny_train, oracle, replace(CONFIG, replications=1))
    (point,) = protocol.sketch(copy, tiny_train, oracle, CONFIG, 1)
    for name in ("fid", "r_precision_3", "mm_dist"):
        assert point[name] == pytest.approx(row[name]["mean"], abs=1e-9)
