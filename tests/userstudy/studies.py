"""A small user study, and participants who answer it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from adaqf_train.userstudy.page import CRITERIA, Key, Question, write_user_study
from tests.render.test_page import walk

MODELS = ("AdaQF", "MDM", "MoMask", "SALAD")
TASTE = dict(zip(MODELS, (0.0, 1.0, 2.0, 3.0), strict=True))  # the lower, the better: a planted order


def questions(count: int = 4, models: tuple[str, ...] = MODELS) -> list[Question]:
    return [
        Question(f"a person walks, {i}", {m: walk(frames=24, seed=10 * i + k) for k, m in enumerate(models)})
        for i in range(count)
    ]


def study(folder: Path, count: int = 4, *, checks: int = 0, seed: int = 0) -> tuple[Path, Key]:
    """Write a small user study; return its page and key."""
    page = folder / "study.html"
    return page, Key.read(write_user_study(page, questions(count), title="Walks", fps=20, checks=checks, seed=seed))


def answer(
    path: Path,
    key: Key,
    participant: str,
    taste: Mapping[str, float] | Callable[[], float],
    *,
    noise: float = 0.0,
    asleep: bool = False,
    **changes: object,
) -> Path:
    """Write a participant's file; asleep: the participant fails the attention checks."""
    rng = np.random.default_rng(list(participant.encode()))
    given = []
    for question in sorted(key.takes, key=key.texts.get):  # the page's order is random
        takes = key.takes[question]
        by_model = sorted(takes.items(), key=lambda item: item[1])
        ranking = {}
        for name in CRITERIA:
            score = {take: taste[model] + noise * rng.normal() for take, model in by_model}
            if question in key.checks:
                score[key.checks[question]] = -9.0 if asleep else 9.0
            ranking[name] = sorted(takes, key=score.get)
        given.append({"question": question, "shown": sorted(takes), "seconds": 30, "ranking": ranking})
    content = {"study": key.study, "participant": participant, "code": "", "answers": given} | changes
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
