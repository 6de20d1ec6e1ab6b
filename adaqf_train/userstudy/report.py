"""Participants' answers read strictly, and the table they make."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaclip.files import read_json
from adaqf_train.errors import UserStudyError
from adaqf_train.userstudy.statistics import Estimate, estimate, holm, sign_flip
from adaqf_train.userstudy.study import CRITERIA, Key

METHOD = (
    "Mean ranks from 1 (best) to {models}; 95 % CIs by bootstrap over participants (10,000 resamples); p of each pair "
    "by a randomisation test of the participants' mean rank differences, two-sided, adjusted for the number of pairs "
    "(Holm)."
)


@dataclass(frozen=True)
class Answers:
    """What one participant said."""

    participant: str
    where: Path
    ranks: Mapping[str, np.ndarray]  # criterion -> (questions, models), 1 = best; attention checks are left out
    attentive: bool  # every body that stood on its head was ranked last, by every criterion


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
class StudyReport:
    """What all participants said."""

    title: str
    participants: int
    excluded: tuple[str, ...]  # files of participants who did not pass the attention checks
    questions: int
    models: int
    rows: Mapping[str, tuple[Row, ...]]  # criterion -> models, best first
    pairs: Mapping[str, tuple[Pair, ...]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def markdown(self) -> str:
        people = f"{self.participants} participant{'s' if self.participants != 1 else ''}"
        left_out = f", {len(self.excluded)} more left out by the attention checks" if self.excluded else ""
        lines = [f"# {self.title}", "", f"{people}{left_out}; {self.questions} prompts, {self.models} models."]
        for criterion in self.rows:
            lines += [
                "",
                f"## {criterion.capitalize()}",
                "",
                "| model | mean rank ↓ | ranked first ↑ |",
                "|---|---|---|",
            ]
            lines += [f"| {r.model} | {_ranks(r.rank)} | {_percent(r.first)} |" for r in self.rows[criterion]]
            lines += ["", "| pair | wins | p |", "|---|---|---|"]
            lines += [
                f"| {pair.better} over {pair.worse} | {_percent(pair.wins)} | {_p(pair.p)} |"
                for pair in self.pairs[criterion]
            ]
        lines += ["", METHOD.format(models=self.models)]
        if self.participants < 2:
            lines += ["One participant is no sample: no intervals, and no p below 1."]
        return "\n".join(lines)


def report(paths: Sequence[Path], key_path: Path) -> StudyReport:
    """Reads all answers (files, or folders of them) and sums them up.

    UserStudyError names the file that is not an answer to this study, is incomplete, or is a participant's second one.
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
                f"{file}: the answers of participant {answers.participant}, which {other.where} holds already. "
                "Keep one of the two."
            )
        by_participant[answers.participant] = answers
    kept = [answers for answers in by_participant.values() if answers.attentive]
    if not kept:
        raise UserStudyError(
            f"None of the {len(files)} participants passed the attention checks: there is nothing to report."
        )
    ranks = {name: np.stack([answers.ranks[name] for answers in kept]) for name in CRITERIA}
    return StudyReport(
        title=key.title,
        participants=len(kept),
        excluded=tuple(str(answers.where) for answers in by_participant.values() if not answers.attentive),
        questions=len(key.texts) - len(key.checks),
        models=len(key.models),
        rows={name: rows_of(ranks[name], key.models) for name in CRITERIA},
        pairs={name: pairs_of(ranks[name], key.models) for name in CRITERIA},
    )


def rows_of(ranks: np.ndarray, models: Sequence[str]) -> tuple[Row, ...]:
    """Models by mean rank, best first. ranks: (participants, questions, models)."""
    rows = [
        Row(model, estimate(ranks[..., m].mean(axis=1)), estimate((ranks[..., m] == 1).mean(axis=1)))
        for m, model in enumerate(models)
    ]
    return tuple(sorted(rows, key=lambda row: row.rank.mean))


def pairs_of(ranks: np.ndarray, models: Sequence[str]) -> tuple[Pair, ...]:
    """Every pair of models, the one with the better mean rank first. ranks: (participants, questions, models)."""
    order = np.argsort(ranks.mean(axis=(0, 1)), kind="stable")
    pairs = list(itertools.combinations(order, 2))
    p_values = holm(np.array([sign_flip((ranks[..., b] - ranks[..., a]).mean(axis=1)) for a, b in pairs]))
    return tuple(
        Pair(models[a], models[b], estimate((ranks[..., a] < ranks[..., b]).mean(axis=1)), float(p))
        for (a, b), p in zip(pairs, p_values, strict=True)
    )


def read_answers(path: Path, key: Key) -> Answers:
    """One participant's file, checked against the key; UserStudyError says what is wrong with it."""
    if not path.is_file():
        raise UserStudyError(f"{path}: no such file. Give the JSON files that participants saved.")
    content = read_json(path)
    if content.get("study") != key.study:
        raise UserStudyError(f"{path}: not answers to this study ({key.title}). Leave it out, or give its own key.")
    participant, given = content.get("participant"), content.get("answers")
    if not isinstance(participant, str) or not participant or not isinstance(given, list):
        raise UserStudyError(f"{path}: no participant or no answers in it. Ask for the file as the page saved it.")
    rankings: dict[str, dict[str, list[str]]] = {}
    for answer in given:
        question = answer.get("question") if isinstance(answer, dict) else None
        if not isinstance(question, str) or question not in key.takes:
            raise UserStudyError(f"{path}: question {repr(question)[:60]} is unknown.")
        if question in rankings:
            raise UserStudyError(f"{path}: question {question!r} is there twice.")
        rankings[question] = _checked_ranking(path, answer, key)
    if missing := [question for question in key.takes if question not in rankings]:
        text = key.texts[missing[0]]
        raise UserStudyError(f"{path}: {len(missing)} of {len(key.takes)} questions unanswered, such as {text!r}.")
    real = [question for question in key.takes if question not in key.checks]
    ranks = {
        name: np.array([_ranks_of(rankings[q][name], key.takes[q], key.models) for q in real]) for name in CRITERIA
    }
    attentive = all(rankings[question][name][-1] == take for question, take in key.checks.items() for name in CRITERIA)
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


def _ranks_of(ranking: Sequence[str], takes: Mapping[str, str], models: Sequence[str]) -> list[int]:
    """Rank of each model, from takes in order, best first."""
    order = [takes[take] for take in ranking]
    return [order.index(model) + 1 for model in models]


def _ranks(value: Estimate) -> str:
    return f"{value.mean:.2f}" + ("" if value.low is None else f" [{value.low:.2f}, {value.high:.2f}]")


def _percent(value: Estimate) -> str:
    return f"{value.mean:.0%}" + ("" if value.low is None else f" [{value.low:.0%}, {value.high:.0%}]")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
