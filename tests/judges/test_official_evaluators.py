"""The official evaluators: names, shapes, files and the order of what they return, on random weights."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adaqf_train.cli import main
from adaqf_train.errors import DataError
from adaqf_train.evaluation.report import Report
from adaqf_train.judges.official import (
    GRUSummary,
    MovementEncoder,
    T2MEvaluator,
    TextEncoder,
    find_checkpoint,
    load_official,
)
from adaqf_train.judges.official_words import WordVectors, parse_tokens, tokens_of
from tests.helpers import FLOAT32, deviation

WORDS = ["sos", "eos", "unk", "a", "person", "walk", "left", "slowly", "chair"]
CAPTIONS = {
    "a person walks left": "a/DET person/NOUN walk/VERB left/ADV",
    "a person waves": "a/DET person/NOUN wave/VERB",
    "a long walk": " ".join(["walk/VERB"] * 30),
}


@pytest.fixture(scope="module", params=[263, 251], ids=["humanml3d", "kit"])
def width(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def files(width: int, tmp_path_factory) -> Path:
    """Files in the layout of the official ones."""
    folder = tmp_path_factory.mktemp("official")
    model = folder / "t2m" / "text_mot_match" / "model"
    model.mkdir(parents=True)
    torch.manual_seed(0)
    parts = {
        "movement_encoder": MovementEncoder(width - 4),
        "motion_encoder": GRUSummary(512, 1024),
        "text_encoder": TextEncoder(),
    }
    stored = {name: module.state_dict() for name, module in parts.items()}
    torch.save(stored | {"epoch": 7, "iter": 9, "opt_movement_encoder": {"state": {}}}, model / "finest.tar")
    glove = folder / "glove"
    glove.mkdir()
    np.save(glove / "our_vab_data.npy", np.random.default_rng(0).standard_normal((len(WORDS), 300)))
    (glove / "our_vab_words.pkl").write_bytes(pickle.dumps(WORDS))
    (glove / "our_vab_idx.pkl").write_bytes(pickle.dumps({word: i for i, word in enumerate(WORDS)}))
    return folder


@pytest.fixture(scope="module")
def evaluator(files: Path, width: int) -> T2MEvaluator:
    rng = np.random.default_rng(1)
    mean, std = rng.standard_normal(width), 0.5 + rng.random(width)
    tokens = {caption: parse_tokens(field) for caption, field in CAPTIONS.items()}
    return T2MEvaluator(find_checkpoint(files), files / "glove", mean, std, tokens)


def clips(width: int, *lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.standard_normal((length, width)).astype(np.float32) for length in lengths]


def test_networks_have_the_official_sizes():
    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert size(MovementEncoder(259)) == 1_842_688
    assert size(GRUSummary(512, 1024)) == 15_747_584
    assert size(TextEncoder()) == 4_100_288


def test_embed_motions_keeps_the_order(evaluator, width):
    motions = clips(width, 40, 196, 64, 120)
    together = evaluator.embed_motions(motions)
    assert together.shape == (4, 512)
    for motion, embedding in zip(motions, together, strict=True):
        assert deviation(evaluator.embed_motions([motion])[0], embedding) < FLOAT32
    assert np.abs(together[0] - together[2]).max() > 1e-2


def test_embed_motions_pads_each_clip_with_zeros(evaluator, width):
    """The oracle: the official batch, normalised and zero-padded to 196 frames, through plain layers."""
    (motion,) = clips(width, 60)
    padded = np.zeros((1, 196, width))
    padded[0, :60] = (motion - evaluator.mean) / evaluator.std
    inputs = torch.from_numpy(padded[..., :-4]).float()
    weights = evaluator.movement.state_dict()
    with torch.no_grad():
        x = inputs.transpose(1, 2)
        for layer in ("main.0", "main.3"):
            x = torch.conv1d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"], stride=2, padding=1)
            x = torch.where(x > 0, x, 0.2 * x)
        x = x.transpose(1, 2) @ weights["out_net.weight"].T + weights["out_net.bias"]
        x = evaluator.motion.input_emb(x[:, :15])  # 60 frames are 15 steps
        _, last = evaluator.motion.gru(x, evaluator.motion.hidden)
        expected = evaluator.motion.output_net(torch.cat([last[0], last[1]], dim=-1))
    assert deviation(evaluator.embed_motions([motion]), expected) < FLOAT32


def test_embed_motions_ignores_incomplete_steps(evaluator, width):
    (motion,) = clips(width, 62)
    assert deviation(evaluator.embed_motions([motion]), evaluator.embed_motions([motion[:60]])) < FLOAT32
    assert np.abs(evaluator.embed_motions([motion]) - evaluator.embed_motions([motion[:56]])).max() > 1e-3


def test_embed_texts_keeps_the_order_and_reads_twenty_words(evaluator):
    texts = list(CAPTIONS)
    together = evaluator.embed_texts(texts)
    assert deviation(together[::-1], evaluator.embed_texts(texts[::-1])) < FLOAT32
    words, tags, length = evaluator.words.encode(evaluator.tokens["a long walk"])
    assert (words.shape, tags.shape, length) == ((22, 300), (22, 15), 22)
    assert not np.allclose(together[0], together[1], atol=1e-2)


def test_word_vectors_encode_the_official_codes(evaluator):
    def codes(*tokens) -> list[int]:
        return evaluator.words.encode(tokens)[1].argmax(axis=1)[1 : len(tokens) + 1].tolist()

    assert codes(("a", "DET"), ("person", "NOUN"), ("walk", "NOUN"), ("left", "VERB")) == [2, 1, 12, 9]
    assert codes(("slowly", "ADV"), ("chair", "NOUN"), ("person", "PUNCT")) == [13, 11, 14]
    assert codes(("jump", "VERB")) == [14]  # without a vector here: "unk", and its tag goes too
    words, _, length = evaluator.words.encode([("jump", "VERB")])
    np.testing.assert_array_equal(words[1], evaluator.words.vectors["unk"])
    assert length == 3


def test_embed_texts_of_an_unknown_caption_needs_spacy(evaluator, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(DataError, match="install spacy and its model en_core_web_sm"):
        evaluator.embed_texts(["somebody dances"])


@pytest.mark.parametrize("how", ["missing", "no tar", "other data", "no encoder", "bad vectors", "code", "short list"])
def test_load_names_damaged_files(files, width, tmp_path, how):
    folder = shutil.copytree(files, tmp_path / "files")
    glove, wrong = folder / "glove", width
    checkpoint = find_checkpoint(folder)
    if how == "missing":
        checkpoint.unlink()
    elif how == "no tar":
        checkpoint.write_bytes(b"not a checkpoint")
    elif how == "other data":
        wrong = 251 if width == 263 else 263
    elif how == "no encoder":
        torch.save({"movement_encoder": {}}, checkpoint)
    elif how == "bad vectors":
        np.save(glove / "our_vab_data.npy", np.zeros((3, 300)))
    elif how == "code":
        (glove / "our_vab_words.pkl").write_bytes(pickle.dumps(Path("a")))  # would call a constructor
    elif how == "short list":
        (glove / "our_vab_idx.pkl").write_bytes(pickle.dumps({"a": 0}))
    named = "glove|our_vab" if how in ("bad vectors", "code", "short list") else "finest.tar"
    with pytest.raises(DataError, match=named) as error:
        T2MEvaluator(checkpoint, glove, np.zeros(wrong), np.ones(wrong), {})
    assert "\n" not in str(error.value)


def test_find_checkpoint_needs_exactly_one(files, tmp_path):
    assert find_checkpoint(files.parent / files.name).name == "finest.tar"
    with pytest.raises(DataError, match="no text_mot_match"):
        find_checkpoint(tmp_path)


def test_parse_tokens_refuses_a_token_without_a_tag():
    assert parse_tokens("a/DET and/or/CCONJ") == (("a", "DET"), ("and/or", "CCONJ"))
    with pytest.raises(DataError, match="'walk' has no part of speech"):
        parse_tokens("a/DET walk")


def test_word_vectors_hold_the_vocabulary(files):
    vectors = WordVectors(files / "glove")
    assert "walk" in vectors.vectors
    assert "jump" not in vectors.vectors


@pytest.fixture
def official_data(tiny_data, width, tmp_path):
    """A data set whose words have parts of speech, with the evaluators' statistics beside it."""
    assert width == 263  # the tiny data set's
    folder = shutil.copytree(tiny_data, tmp_path / "dataset" / "HumanML3D")
    for path in (folder / "texts").glob("*.txt"):
        path.write_text(path.read_text().replace("walks/OTHER", "walk/VERB").replace("person/OTHER", "person/NOUN"))
    np.save(folder.parent / "t2m_mean.npy", np.load(folder / "Mean.npy"))
    np.save(folder.parent / "t2m_std.npy", np.load(folder / "Std.npy"))
    return folder


@pytest.mark.parametrize("width", [263], indirect=True)
def test_evaluate_scores_a_run_by_the_official_evaluators_too(tiny_run, official_data, files, tmp_path, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    command = ["evaluate", "--run", str(run), "--data", str(official_data)]
    assert main(command) == 0
    before = json.loads((run / "report.json").read_text())["rows"]
    assert main([*command, "--official", str(files)]) == 3  # random weights do not score as the official ones do
    report = json.loads((run / "report.json").read_text())
    assert report["comparable"] is False
    for arm, row in report["rows"].items():
        for name, cell in before[arm].items():
            assert cell["mean"] is None or row[name] == pytest.approx(cell, rel=1e-4, abs=1e-6)
        assert row["official_fid"] != row["fid"]
        assert {"official_r_precision_3", "official_mm_dist", "official_diversity"} <= row.keys()
        assert ("official_multimodality" in row) == (arm in ("baseline", "adaqf"))
    assert len(report["official"]) == 16  # a hash of the checkpoint
    assert set(report["retrieval"]) == {"extractors", "evaluator", "official"}
    text = (run / "report.md").read_text()
    assert "By the official evaluators:" in text
    reason = "on real motions, the official evaluators should give R@3 0.797"
    assert f"**Not comparable** with the literature: {reason}" in text


@pytest.mark.parametrize("skeleton", ["humanml3d", "kit"])
def test_report_is_comparable_if_real_motions_have_the_known_figures(skeleton):
    def report(r3: float, fid: float) -> Report:
        row = {"official_r_precision_3": {"mean": r3, "ci95": 0}, "official_fid": {"mean": fid, "ci95": 0}}
        return Report({"gt": row}, {"skeleton": skeleton})

    r3, fid = (0.797, 0.002) if skeleton == "humanml3d" else (0.779, 0.031)
    assert report(r3 + 0.005, fid).comparable
    assert report(r3 - 0.02, fid).comparable is False
    assert report(r3, fid + 0.02).comparable is False
    assert Report({"gt": {}}, {"skeleton": skeleton}).comparable is None  # without them nothing is known


@pytest.mark.parametrize("width", [263], indirect=True)
def test_load_official_names_what_is_missing(tiny_data, official_data, files, tmp_path):
    with pytest.raises(DataError, match="the words have no parts of speech"):
        tokens_of(tiny_data)
    with pytest.raises(DataError, match=r"no glove/our_vab_data.npy"):
        load_official(tmp_path / "dataset", official_data)
    (official_data.parent / "t2m_std.npy").unlink()
    with pytest.raises(DataError, match="the evaluators' own statistics are missing"):
        load_official(files, official_data)
