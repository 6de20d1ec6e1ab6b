"""The benchmark of text encoders: contrasts, their scores on encoders with known answers, and the verb."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from adaqf_train.cli import main
from adaqf_train.errors import DataError
from adaqf_train.evaluation.text import contrasts as made
from adaqf_train.evaluation.text.contrasts import KINDS, Contrast
from adaqf_train.evaluation.text.distinctions import score
from adaqf_train.evaluation.text.vectors import counted_words, vectors_of

CAPTIONS = [
    "A person walks slowly forward and then waves with the left hand.",
    "Someone turns clockwise twice.",
    "a human kicks once before walking backwards",
    "A man stands still",  # nothing to flip, nothing to replace
]


@pytest.fixture(scope="module")
def templates() -> list[Contrast]:
    return made.from_templates()


def test_templates_cover_every_kind_with_many_groups(templates):
    assert {contrast.kind for contrast in templates} == set(KINDS)
    for kind in KINDS:
        own = [contrast for contrast in templates if contrast.kind == kind]
        assert len({contrast.group for contrast in own}) >= 8
        for contrast in own:
            assert len(set(contrast.texts)) == 4, contrast
            assert not re.search(r"[{}|]", "".join(contrast.texts))


def test_minimal_pairs_of_templates_are_each_others_minimal_pairs(templates):
    pairs = {(c.anchor, c.other) for c in templates}
    assert all((other, anchor) in pairs for anchor, other in pairs)


def test_captions_give_flips_and_paraphrases():
    found = made.from_captions(CAPTIONS)
    assert {contrast.kind for contrast in found} == {"side", "direction", "speed", "count", "order"}
    side = next(contrast for contrast in found if contrast.kind == "side")
    assert side.other == CAPTIONS[0].replace("left", "right")
    assert "left hand" in side.same
    assert "at a slow pace" in side.same
    assert side.other_same == side.same.replace("left", "right")
    assert not any("stands still" in contrast.anchor for contrast in found)


def test_captions_are_chosen_whatever_their_order():
    captions = [f"A person walks slowly forward for {n} seconds and then jumps" for n in range(20)]
    first, second = (made.from_captions(order, per_kind=5) for order in (captions, captions[::-1]))
    assert {c.texts for c in first} == {c.texts for c in second}
    assert sum(c.kind == "speed" for c in first) == 5


def meanings(contrasts: list[Contrast]) -> dict[str, np.ndarray]:
    """Vectors that hold the group and which of the two meanings a text has, and nothing of its words."""
    groups = {name: place for place, name in enumerate(dict.fromkeys(c.group for c in contrasts))}
    found: dict[str, np.ndarray] = {}
    for c in contrasts:
        first = found[c.anchor][-1] if c.anchor in found else (1.0 if c.other not in found else -found[c.other][-1])
        for texts, sign in (((c.anchor, c.same), first), ((c.other, c.other_same), -first)):
            for text in texts:
                found.setdefault(text, np.append(np.eye(len(groups))[groups[c.group]], sign))
    return found


def test_score_of_an_encoder_that_reads_meanings_alone_is_1(templates):
    found = score(templates, meanings(templates))
    assert {name: found[name]["mean"] for name in (*KINDS, "all", "strict")} == dict.fromkeys(
        (*KINDS, "all", "strict"), 1
    )
    assert found["sameness"]["mean"] == pytest.approx(0, abs=1e-9)
    assert found["difference"]["mean"] > 0.5


def test_score_of_collapsed_vectors_is_0(templates):
    texts = made.texts_of(templates)
    found = score(templates, dict.fromkeys(texts, np.ones(4)))
    assert found["all"]["mean"] == found["strict"]["mean"] == 0


def test_score_of_random_vectors_is_chance(templates):
    texts = made.texts_of(templates)
    rows = np.random.default_rng(0).standard_normal((len(texts), 64))
    found = score(templates, dict(zip(texts, rows, strict=True)))
    assert found["all"]["mean"] == pytest.approx(0.5, abs=3 * found["all"]["ci95"])
    assert found["difference"]["mean"] == pytest.approx(1, abs=0.1)


def test_score_of_counted_words_fails_where_words_differ(templates):
    texts = made.texts_of(templates)
    found = score(templates, dict(zip(texts, counted_words(texts), strict=True)))
    assert found["strict"]["mean"] < 0.05  # minimal pairs share nearly all words
    assert found["side"]["mean"] == 1  # left and right are the same words in every sentence
    assert found["order"]["mean"] < 0.2


@pytest.mark.parametrize("vector", [np.zeros(4), np.full(4, np.nan), np.ones((2, 2)), np.ones(5)])
def test_score_refuses_vectors_that_mean_nothing(templates, vector):
    texts = made.texts_of(templates)
    vectors = dict.fromkeys(texts, np.ones(4)) | {texts[3]: vector}
    with pytest.raises(ValueError, match=r"[Vv]ector"):
        score(templates, vectors)


def test_interval_covers_the_mean_of_independent_groups():
    """The 95 % interval over 40 groups of known spread is 1.96 standard errors wide on each side."""
    from adaqf_train.evaluation.text.distinctions import _mean

    means = np.random.default_rng(1).standard_normal(40)
    values, groups = np.repeat(means, 7), np.repeat(np.arange(40), 7)
    figure = _mean(values, groups, seed=0)
    assert figure["mean"] == pytest.approx(means.mean())
    assert figure["ci95"] == pytest.approx(1.96 * means.std() / np.sqrt(40), rel=0.1)


def test_vectors_of_a_file_must_have_a_row_for_each_text(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((3, 4)))
    assert vectors_of(str(tmp_path / "v.npy"), ["a", "b", "c"]).shape == (3, 4)
    with pytest.raises(DataError, match=r"expected \(2, E\)"):
        vectors_of(str(tmp_path / "v.npy"), ["a", "b"])
    np.save(tmp_path / "zero.npy", np.zeros((1, 4)))
    with pytest.raises(DataError, match="zero"):
        vectors_of(str(tmp_path / "zero.npy"), ["a"])


def test_encoders_verb_compares_words_and_a_file(tmp_path, capsys):
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS), encoding="utf-8")
    texts = tmp_path / "texts.txt"
    assert main(["encoders", "--captions", str(tmp_path / "captions.txt"), "--write-texts", str(texts)]) == 0
    rows = np.random.default_rng(0).standard_normal((len(texts.read_text().splitlines()), 8))
    np.save(tmp_path / "random.npy", rows)
    out = tmp_path / "out"
    command = ["encoders", "words", f"mine={tmp_path / 'random.npy'}", "--out", str(out)]
    assert main([*command, "--captions", str(tmp_path / "captions.txt")]) == 0
    stored = json.loads((out / "encoders.json").read_text())
    assert set(stored["scores"]) == {"templates", "captions"}
    assert set(stored["scores"]["templates"]) == {"words", "mine"}
    assert "| mine |" in (out / "encoders.md").read_text()
    assert (out / "encoders.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No encoder given"),
        (("words", "words"), "two encoders are called words"),
        (("words", "--captions", "nowhere.txt"), "nowhere.txt"),
        (("nowhere.npy",), "nowhere.npy"),
        (("words", "--per-kind", "0"), "--per-kind"),
    ],
)
def test_encoders_verb_refuses_in_one_line(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["encoders", *arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert said in error[0]
