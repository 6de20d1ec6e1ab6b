"""The report of a user study: it finds planted orders, does not mistake chance for one, and names broken files."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.errors import UserStudyError
from adaqf_train.userstudy import report as reporting
from adaqf_train.userstudy.page import CRITERIA, Key
from tests.userstudy.studies import MODELS, TASTE, answer, study

KEY = "study.key.json"


def everybody(folder: Path, key: Key, count: int, noise: float, taste=TASTE) -> list[Path]:
    return [answer(folder / f"{k}.json", key, f"p{k}", taste, noise=noise) for k in range(count)]


def test_report_finds_a_planted_order(tmp_path):
    _, key = study(tmp_path)
    found = reporting.report(everybody(tmp_path, key, 12, noise=0.8), tmp_path / KEY)
    assert (found.participants, found.questions, found.models, found.excluded) == (12, 4, 4, ())
    for name in CRITERIA:
        rows, pairs = found.rows[name], found.pairs[name]
        assert [row.model for row in rows] == list(MODELS)
        assert all(row.rank.low <= row.rank.mean <= row.rank.high for row in rows)
        assert rows[0].rank.high < rows[3].rank.low
        assert sum(row.rank.mean for row in rows) == pytest.approx(1 + 2 + 3 + 4)
        assert sum(row.first.mean for row in rows) == pytest.approx(1)
        assert len(pairs) == 6
        best_worst = next(pair for pair in pairs if (pair.better, pair.worse) == (MODELS[0], MODELS[3]))
        assert best_worst.wins.mean > 0.9
        assert best_worst.p < 0.01


def test_report_of_unanimous_participants_is_exact(tmp_path):
    _, key = study(tmp_path)
    found = reporting.report(everybody(tmp_path, key, 5, noise=0), tmp_path / KEY)
    assert [row.rank.mean for row in found.rows["realism"]] == [1, 2, 3, 4]
    assert [row.first.mean for row in found.rows["realism"]] == [1, 0, 0, 0]
    assert {pair.wins.mean for pair in found.pairs["realism"]} == {1}
    assert {pair.p for pair in found.pairs["realism"]} == {6 * 2 / 2**5}  # six pairs, 2^5 signs


def test_report_does_not_take_chance_for_an_order(tmp_path):
    _, key = study(tmp_path, 8)
    found = reporting.report(everybody(tmp_path, key, 12, noise=1, taste=dict.fromkeys(MODELS, 0.0)), tmp_path / KEY)
    rows = [row for name in CRITERIA for row in found.rows[name]]
    assert sum(row.rank.low < 2.5 < row.rank.high for row in rows) >= 7  # of 8, all of which are 2.5 in truth
    assert all(a.rank.high > b.rank.low for a, b in itertools.pairwise(rows[:4]))
    assert min(pair.p for name in CRITERIA for pair in found.pairs[name]) > 0.05


def test_report_keeps_criteria_apart(tmp_path):
    _, key = study(tmp_path)
    path = answer(tmp_path / "a.json", key, "p", TASTE)
    content = json.loads(path.read_text())
    for given in content["answers"]:
        given["ranking"]["alignment"].reverse()
    path.write_text(json.dumps(content))
    found = reporting.report([path], tmp_path / KEY)
    assert [row.model for row in found.rows["realism"]] == list(MODELS)
    assert [row.model for row in found.rows["alignment"]] == list(reversed(MODELS))


def test_report_excludes_and_counts_participants_who_fail_an_attention_check(tmp_path):
    _, key = study(tmp_path, checks=2)
    people = everybody(tmp_path, key, 3, noise=0)
    sleeper = answer(tmp_path / "z.json", key, "sleeper", {m: -t for m, t in TASTE.items()}, asleep=True)
    found = reporting.report([*people, sleeper], tmp_path / KEY)
    assert (found.participants, found.excluded, found.questions) == (3, (str(sleeper),), 4)
    assert [row.rank.mean for row in found.rows["realism"]] == [1, 2, 3, 4]
    assert "1 more excluded by the attention checks" in found.markdown()
    with pytest.raises(UserStudyError, match="None of the 1 participants passed"):
        reporting.report([sleeper], tmp_path / KEY)


def test_report_markdown_states_sizes_and_method(tmp_path):
    _, key = study(tmp_path)
    people = everybody(tmp_path, key, 6, noise=0.5)
    text = reporting.report([tmp_path], tmp_path / KEY).markdown()  # the folder, in which the key lies too
    assert text == reporting.report(people, tmp_path / KEY).markdown()
    for words in ("6 participants; 4 prompts, 4 models", "## Realism", "## Alignment", "bootstrap over participants"):
        assert words in text
    assert re.search(r"\| AdaQF \| 1\.\d\d \[1\.\d\d, [12]\.\d\d\] \| \d+% \[\d+%, \d+%\] \|", text)
    assert json.loads(json.dumps(asdict(reporting.report(people, tmp_path / KEY))))["participants"] == 6
    alone = reporting.report(people[:1], tmp_path / KEY).markdown()
    assert "[" not in alone.split("Mean ranks")[0]
    assert "A single participant is not a sample" in alone


def broken(content: dict, how: str) -> None:
    answers = content["answers"]
    match how:
        case "missing":
            answers.pop()
        case "twice":
            answers.append(answers[0])
        case "unknown":
            answers[0]["question"] = "ffff"
        case "many":
            answers[0] = {"question": [1], "ranking": {}}
        case "short":
            answers[0]["ranking"]["realism"].pop()
        case "same":
            answers[0]["ranking"]["realism"][0] = answers[0]["ranking"]["realism"][1]
        case "numbers":
            answers[0]["ranking"]["alignment"] = [1, 2, 3, 4]
        case "none":
            del answers[0]["ranking"]["alignment"]
        case "foreign":
            content["study"] = "another"
        case "nobody":
            del content["participant"]
        case "words":
            content["answers"] = "best"
        case "listed":
            answers[0] = ["?"]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "1 of 4 questions unanswered"),
        ("twice", "is answered twice"),
        ("unknown", "question 'ffff' is unknown"),
        ("many", "question [1] is unknown"),
        ("short", "is not ranked by realism"),
        ("same", "is not ranked by realism"),
        ("numbers", "is not ranked by alignment"),
        ("none", "is not ranked by alignment"),
        ("foreign", "does not answer this user study"),
        ("nobody", "no participant"),
        ("words", "no answers"),
        ("listed", "question None is unknown"),
    ],
)
def test_report_names_a_broken_file(tmp_path, how, says):
    _, key = study(tmp_path)
    path = answer(tmp_path / "a.json", key, "p", TASTE)
    reporting.report([path], tmp_path / KEY)
    content = json.loads(path.read_text())
    broken(content, how)
    path.write_text(json.dumps(content))
    with pytest.raises(UserStudyError, match=re.escape(says)) as error:
        reporting.report([path], tmp_path / KEY)
    assert str(path) in str(error.value)


def test_report_names_both_files_of_one_participant(tmp_path):
    _, key = study(tmp_path)
    first, second = (answer(tmp_path / name, key, "p", TASTE) for name in ("a.json", "b.json"))
    with pytest.raises(UserStudyError, match="Keep one of the two") as error:
        reporting.report([first, second], tmp_path / KEY)
    assert str(first) in str(error.value)
    assert str(second) in str(error.value)


def test_report_needs_answers_and_a_key(tmp_path):
    _, key = study(tmp_path)
    path = answer(tmp_path / "a.json", key, "p", TASTE)
    with pytest.raises(UserStudyError, match="No answers"):
        reporting.report([], tmp_path / KEY)
    with pytest.raises(UserStudyError, match="no such file"):
        reporting.report([tmp_path / "none.json"], tmp_path / KEY)
    with pytest.raises(UserStudyError, match="not the key of a user study"):
        reporting.report([path], path)


def test_report_does_not_depend_on_the_order_of_files(tmp_path):
    _, key = study(tmp_path)
    people = everybody(tmp_path, key, 5, noise=1)
    forward, backward = (reporting.report(paths, tmp_path / KEY) for paths in (people, people[::-1]))
    for name in CRITERIA:
        means = [np.array([row.rank.mean for row in found.rows[name]]) for found in (forward, backward)]
        assert means[0] == pytest.approx(means[1])
