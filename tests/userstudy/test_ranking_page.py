"""The page of a user study: it names no model, its key names them all, and people can answer it in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.errors import UserStudyError
from adaqf_train.userstudy.page import CRITERIA, Key, Question, write_user_study
from adaqf_train.userstudy.report import read_answers, report
from tests.render.test_page import NASTY, Reader, decoded, walk
from tests.render.test_player import picture
from tests.userstudy.studies import MODELS, questions, study


def data_of(page: Path) -> tuple[dict, dict]:
    """The motions and the questions that a page holds."""
    scripts = Reader(page.read_text(encoding="utf-8")).texts["script"]
    return json.loads(scripts[0]), json.loads(scripts[1])


def test_page_holds_every_motion_and_no_name(tmp_path):
    page, key = study(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert not [model for model in MODELS if model in text]
    motions, asking = data_of(page)
    assert asking["study"] == key.study
    by_text = {question.text: question for question in questions()}
    for scene, asked in zip(motions["scenes"], asking["questions"], strict=True):
        question = by_text[key.texts[asked["id"]]]
        for take, name in zip(scene["takes"], asked["takes"], strict=True):
            model = key.takes[asked["id"]][name]
            assert np.abs(decoded(take, motions["step"]) - question.motions[model]).max() <= 0.00051
    assert Reader(text).texts["h2"][1:-1] == [key.texts[asked["id"]] for asked in asking["questions"]]


def test_page_does_not_reveal_the_model_of_a_take(tmp_path):
    """Neither the ids, which are random, nor the places, which follow from them."""
    pages = [study(tmp_path / str(k), 40) for k in range(2)]  # enough that every place occurs
    names = [{name for takes in key.takes.values() for name in takes} for _, key in pages]
    assert len(names[0]) == 160
    assert not names[0] & names[1]
    places = [[list(key.takes[q].values()).index("MDM") for q in key.takes] for _, key in pages]
    assert set(places[0]) == {0, 1, 2, 3}
    assert places[0] != places[1]


def test_attention_checks_look_like_questions_with_a_body_upside_down(tmp_path):
    page, key = study(tmp_path, checks=2)
    motions, asking = data_of(page)
    assert len(key.checks) == 2
    assert len(asking["questions"]) == 6
    assert not any("check" in text for text in map(json.dumps, asking["questions"]))
    upright = 0
    for scene, asked in zip(motions["scenes"], asking["questions"], strict=True):
        for take, name in zip(scene["takes"], asked["takes"], strict=True):
            joints = decoded(take, motions["step"])
            on_its_head = joints[:, 15, 1].mean() < joints[:, 10, 1].mean()  # head below the left toe
            assert on_its_head == (key.checks.get(asked["id"]) == name)
            upright += not on_its_head
            assert joints[0, 1, 0] > joints[0, 2, 0]  # by the hips the camera knows the front
    assert upright == 4 * 6 - 2


def test_page_escapes_text(tmp_path):
    asked = [Question(NASTY, {"a": walk(), "b": walk(seed=1)})]
    write_user_study(tmp_path / "study.html", asked, title=NASTY, fps=20)
    reader = Reader((tmp_path / "study.html").read_text(encoding="utf-8"))
    assert reader.texts["h1"] == [NASTY]
    assert reader.texts["h2"][1] == NASTY
    assert len(reader.texts["script"]) == 4


def test_page_refuses_questions_that_do_not_fit_together(tmp_path):
    path = tmp_path / "study.html"
    uneven = [*questions(1), Question("another", {"MDM": walk()})]
    alone = [Question("a person", {"MDM": walk()})]
    endless = [Question("a person", {m: walk() * (np.nan if m == "MDM" else 1) for m in MODELS})]
    for asked, checks, says in (
        ([], 0, "No prompts"),
        (uneven, 0, "Every model must have a motion"),
        (alone, 0, "1 models"),
        (questions(2), 3, "give 0 to 2"),
        (endless, 0, "NaN or infinity"),
    ):
        with pytest.raises(UserStudyError, match=says):
            write_user_study(path, asked, title="Walks", fps=20, checks=checks)
    assert list(tmp_path.iterdir()) == []


def test_key_is_never_overwritten(tmp_path):
    study(tmp_path)
    key = (tmp_path / "study.key.json").read_bytes()
    with pytest.raises(UserStudyError, match="already exists"):
        study(tmp_path)
    assert (tmp_path / "study.key.json").read_bytes() == key


# In a browser -----------------------------------------------------------------------------------------------------


STILL = {"reduced_motion": "reduce", "viewport": {"width": 800, "height": 600}}  # clicks need not wait for bodies


def rank_all(page, key: Key, order: dict[str, int]) -> list[str]:
    """Answers the question that is shown by clicks: models by `order` on realism, reversed on alignment."""
    scene = page.locator(".scene:not([hidden])")
    shown = page.evaluate(
        """() => [...document.querySelectorAll(".scene:not([hidden]) .take")].map(
          (take) => take.querySelector("input").name.split("-").slice(0, 2))"""
    )
    for place, (question, take) in enumerate(shown):
        rank = order[key.takes[question][take]]
        for criterion, value in zip(CRITERIA, (rank, len(order) + 1 - rank), strict=True):
            field = scene.locator(".take").nth(place).locator(f"fieldset[data-criterion={criterion}]")
            field.locator("label").nth(value - 1).click()
    return [take for _, take in shown]


@pytest.mark.browser
def test_page_answers_by_clicks_reach_the_report(browse, tmp_path):
    path, key = study(tmp_path, 3)
    files = []
    orders = ((1, 2, 3, 4), (1, 2, 4, 3))  # ranks of MODELS, of two people
    for order in orders:
        page = browse(path, **STILL)
        page.get_by_label("Your code").fill("P <1>")
        page.get_by_role("button", name="Start").click()
        for _ in range(3):
            assert page.get_by_role("button", name="Next").is_disabled()
            rank_all(page, key, dict(zip(MODELS, order, strict=True)))
            page.get_by_role("button", name="Next").click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save answers").click()
        files.append(tmp_path / f"{len(files)}-{download.value.suggested_filename}")
        download.value.save_as(files[-1])
        assert page.requests[0] == path.as_uri()
        assert [url for url in page.requests if not url.startswith(("file:", "blob:"))] == []
    content = json.loads(files[0].read_text(encoding="utf-8"))
    assert content["code"] == "P <1>"
    assert content["started"] < content["finished"]
    found = report(files, tmp_path / "study.key.json")
    assert found.participants == 2
    realism = {row.model: row.rank.mean for row in found.rows["realism"]}
    assert realism == {"AdaQF": 1, "MDM": 2, "MoMask": 3.5, "SALAD": 3.5}
    assert {row.model: row.rank.mean for row in found.rows["alignment"]} == {m: 5 - r for m, r in realism.items()}


@pytest.mark.browser
def test_page_keeps_place_order_and_ranks_on_reload(browse, tmp_path):
    path, key = study(tmp_path, 3)
    page = browse(path, **STILL)
    page.get_by_role("button", name="Start").click()
    first = rank_all(page, key, dict(zip(MODELS, (2, 1, 3, 4), strict=True)))
    page.get_by_role("button", name="Next").click()
    sentence = page.locator(".scene:not([hidden]) h2").inner_text()
    page.reload()
    assert page.locator(".scene:not([hidden]) h2").inner_text() == sentence
    page.get_by_role("button", name="Back").click()
    assert page.locator(".scene:not([hidden]) input:checked").count() == 8
    assert rank_all(page, key, dict(zip(MODELS, (2, 1, 3, 4), strict=True))) == first


@pytest.mark.browser
def test_page_gives_every_participant_another_order(browse, tmp_path):
    path, _ = study(tmp_path, 6)
    seen = set()
    for _ in range(3):
        page = browse(path, **STILL)
        page.get_by_role("button", name="Start").click()
        sentence = page.locator(".scene:not([hidden]) h2").inner_text()
        names = page.locator(".scene .take input[value='1']").evaluate_all("all => all.map(({ name }) => name)")
        seen.add((sentence, *names))
    assert len(seen) == 3
    page.on("dialog", lambda dialog: dialog.accept())
    page.evaluate("document.getElementById('again').click()")  # on the last page, which need not be reached for this
    names = page.locator(".scene .take input[value='1']").evaluate_all("all => all.map(({ name }) => name)")
    assert tuple(names) not in {entry[1:] for entry in seen}


@pytest.mark.browser
def test_page_gives_no_rank_twice(browse, tmp_path):
    path, _ = study(tmp_path, 1)
    page = browse(path, **STILL)
    page.get_by_role("button", name="Start").click()
    fields = page.locator(".scene:not([hidden]) fieldset[data-criterion=realism]")

    def ranks() -> list[str | None]:
        return fields.evaluate_all("all => all.map((f) => f.querySelector('input:checked')?.value ?? null)")

    for place, rank in ((0, 1), (1, 2), (2, 1)):
        fields.nth(place).locator("label").nth(rank - 1).click()
    assert ranks() == [None, "2", "1", None]  # the third took the first's rank, which has none now
    fields.nth(1).locator("label").nth(0).click()
    assert ranks() == [None, "1", "2", None]  # these two changed places


@pytest.mark.browser
def test_page_plays_only_the_shown_question(browse, tmp_path):
    asked = [Question("short", {m: walk(frames=21, seed=k) for k, m in enumerate("ab")})]
    asked += [Question("long", {m: walk(frames=61, seed=k) for k, m in enumerate("ab")})]
    path = tmp_path / "study.html"
    key = Key.read(write_user_study(path, asked, title="Walks", fps=20))
    page = browse(path)
    page.get_by_role("button", name="Start").click()
    seen = {}
    for _ in range(2):
        sentence = page.locator(".scene:not([hidden]) h2").inner_text()
        seen[sentence] = page.evaluate("adaclipPlayer.duration")
        index = page.evaluate("[...document.querySelectorAll('.scene')].findIndex((s) => !s.hidden)")
        before = picture(page, 2 * index)
        page.wait_for_timeout(150)
        assert picture(page, 2 * index) != before
        rank_all(page, key, {"a": 1, "b": 2})
        page.get_by_role("button", name="Next").click()
    assert seen == {"short": 1.0, "long": 3.0}
    assert not page.evaluate("adaclipPlayer.playing")


@pytest.mark.browser
def test_page_saves_a_file_that_reads(browse, tmp_path):
    path, key = study(tmp_path, 1, checks=1)
    page = browse(path, **STILL)
    page.get_by_role("button", name="Start").click()
    for _ in range(2):
        rank_all(page, key, dict(zip(MODELS, (1, 2, 3, 4), strict=True)))
        page.get_by_role("button", name="Next").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save answers").click()
    download.value.save_as(tmp_path / "a.json")
    answers = read_answers(tmp_path / "a.json", key)
    for name, ranks in (("realism", [1, 2, 3, 4]), ("alignment", [4, 3, 2, 1])):
        assert answers.ranks[name].tolist() == [ranks]
    assert not answers.attentive  # by one criterion or the other the body on its head came first
