"""The report of a user study: participants' answers, strictly checked, and their tables."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaclip.files import read_json
from adaqf_train.errors import UserStudyError
from adaqf_train.evaluation.columns import markdown
from adaqf_train.userstudy.page import CRITERIA, Key
from adaqf_train.userstudy.statistics import Estimate, estimate, holm, sign_flip

METHOD = (
    "Mean ranks from 1 (best) to {models}; 95 % CIs by bootstrap over participants (10,000 resamples); p of each pair "
    "by a two-sided randomisation test of the participants' mean rank differences, adjusted for the number of pairs "
    "(Holm)."
)


@dataclass(frozen=True)
class Answers:
    """The answers of one participant."""

    participant: str
    where: Path
    ranks: Mapping[str, np.ndarray]  # criterion -> (questions, models), 1 = best, without the attention checks
    attentive: bool  # ranked every body that is upside down last, by every criterion


@dataclass(frozen=True)
class Row:
    """One model by one criterion."""

    model: str
    rank: Estimate
    first: Estimate  # share of answers that rank it first


@dataclass(frozen=True)
class Pair:
    """Two models by one criterion."""

    better: str
    worse: str
    wins: Estimate  # share of answers that rank the better one higher
    p: float  # adjusted


@dataclass(frozen=True)
class UserStudyReport:
    """The rankings of all participants."""

    title: str
    participants: int
    excluded: tuple[str, ...]  # files of participants who failed an attention check
    questions: int
    models: int
    rows: Mapping[str, tuple[Row, ...]]  # criterion -> models, best first
    pairs: Mapping[str, tuple[Pair, ...]]

    def markdown(self) -> str:
        people = f"{self.participants} participant{'s' if self.participants != 1 else ''}"
        failed = f", {len(self.excluded)} more excluded by the attention checks" if self.excluded else ""
        lines = [f"# {self.title}", "", f"{people}{failed}; {self.questions} prompts, {self.models} models."]
        for criterion, rows in self.rows.items():
            ranks = [
                {"model": r.model, "mean rank ↓": f"{r.rank:.2f}", "ranked first ↑": f"{r.first:.0%}"} for r in rows
            ]
            pairs = [
                {
                    "pair": f"{one.better} over {one.worse}",
                    "wins": f"{one.wins:.0%}",
                    "p": "< 0.001" if one.p < 0.001 else f"{one.p:.3f}",
                }
                for one in self.pairs[criterion]
            ]
            lines += ["", f"## {criterion.capitalize()}", "", *markdown(ranks), "", *markdown(pairs)]
        lines += ["", METHOD.format(models=self.models)]
        if self.participants < 2:
            lines += ["A single participant is not a sample: there are no intervals, and every p is 1."]
        return "\n".join(lines)


def report(paths: Sequence[Path], key_path: Path) -> UserStudyReport:
    """Summarise the answers in files that participants saved, or folders of them; key_path: the key beside the page.

    UserStudyError if a file is not an answer to this user study, is incomplete, or is the second one of a participant,
    or if all participants failed the attention checks.
    """
    key = Key.read(key_path)
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    files = [file for file in files if file.resolve() != key_path.resolve()]
    if not files:
        raise UserStudyError("No answers: give the JSON files that participants saved, or a folder of them.")
    by_participant: dict[str, Answers] = {}
    for file in files:
        answers = read_answers(file, key)
        if other := by_participant.get(answers.participant):
            raise UserStudyError(
                f"{file}: participant {answers.participant} has already answered in {other.where}. Keep one of the two."
            )
        by_participant[answers.participant] = answers
    kept = [answers for answers in by_participant.values() if answers.attentive]
    if not kept:
        raise UserStudyError(f"None of the {len(files)} participants passed the attention checks. Collect more.")
    ranks = {name: np.stack([answers.ranks[name] for answers in kept]) for name in CRITERIA}
    return UserStudyReport(
        title=key.title,
        participants=len(kept),
        excluded=tuple(str(answers.where) for answers in by_participant.values() if not answers.attentive),
        questions=len(key.texts) - len(key.checks),
        models=len(key.models),
        rows={name: rows_of(ranks[name], key.models) for name in CRITERIA},
        pairs={name: pairs_of(ranks[name], key.models) for name in CRITERIA},
    )


def rows_of(ranks: np.ndarray, models: Sequence[str]) -> tuple[Row, ...]:
    """Sort models by mean rank, best first. ranks: (participants, questions, models)."""
    rows = [
        Row(model, estimate(ranks[..., m].mean(axis=1)), estimate((ranks[..., m] == 1).mean(axis=1)))
        for m, model in enumerate(models)
    ]
    return tuple(sorted(rows, key=lambda row: row.rank.mean))


def pairs_of(ranks: np.ndarray, models: Sequence[str]) -> tuple[Pair, ...]:
    """Compare all pairs of models, the better mean rank first. ranks: (participants, questions, models)."""
    order = np.argsort(ranks.mean(axis=(0, 1)), kind="stable")
    pairs = list(itertools.combinations(order, 2))
    p_values = holm(np.array([sign_flip((ranks[..., b] - ranks[..., a]).mean(axis=1)) for a, b in pairs]))
    return tuple(
        Pair(models[a], models[b], estimate((ranks[..., a] < ranks[..., b]).mean(axis=1)), float(p))
        for (a, b), p in zip(pairs, p_values, strict=True)
    )


def read_answers(path: Path, key: Key) -> Answers:
    """Read the file of a participant and check it against the key; UserStudyError says what is wrong with it."""
    if not path.is_file():
        raise UserStudyError(f"{path}: no such file. Give the JSON files that participants saved.")
    content = read_json(path)
    if content.get("study") != key.study:
        raise UserStudyError(f"{path}: does not answer this user study ({key.title}). Remove it, or give its own key.")
    participant, given = content.get("participant"), content.get("answers")
    if not isinstance(participant, str) or not participant or not isinstance(given, list):
        raise UserStudyError(f"{path}: no participant or no answers in it. Get the file as the page saved it.")
    orders: dict[str, dict[str, list[str]]] = {}  # question -> criterion -> takes, best first
    for answer in given:
        question = answer.get("question") if isinstance(answer, dict) else None
        if not isinstance(question, str) or question not in key.takes:
            raise UserStudyError(f"{path}: question {repr(question)[:60]} is unknown.")
        if question in orders:
            raise UserStudyError(f"{path}: question {question!r} is answered twice.")
        orders[question] = _checked_ranking(path, answer, key)
    if missing := [question for question in key.takes if question not in orders]:
        text = key.texts[missing[0]]
        raise UserStudyError(f"{path}: {len(missing)} of {len(key.takes)} questions unanswered, such as {text!r}.")
    ranks = {}
    for name in CRITERIA:
        models = [[takes[take] for take in orders[q][name]] for q, takes in key.takes.items() if q not in key.checks]
        ranks[name] = np.array([[order.index(model) + 1 for model in key.models] for order in models])
    attentive = all(orders[question][name][-1] == take for question, take in key.checks.items() for name in CRITERIA)
    return Answers(participant, path, ranks, attentive)


def _checked_ranking(path: Path, answer: Mapping[str, Any], key: Key) -> dict[str, list[str]]:
    ranking, takes = answer.get("ranking"), key.takes[answer["question"]]
    for name in CRITERIA:
        given = ranking.get(name) if isinstance(ranking, dict) else None
        if not isinstance(given, list) or sorted(map(str, given)) != sorted(takes):
            text = key.texts[answer["question"]]
            raise UserStudyError(
                f"{path}: {text!r} is not ranked by {name}: expected each of its {len(takes)} motions once."
            )
    return ranking
