"""The page of a user study, which names no model, and the key that says which motion is whose (appendix A.8)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaclip.files import atomic_file, read_json, write_json
from adaqf_train.errors import UserStudyError
from adaqf_train.files.save import unwritable
from adaqf_train.render.html import document
from adaqf_train.render.payload import Scene, Take, checked, payload

CRITERIA = {  # what participants rank by (A.8), and how the page asks for it
    "realism": "How real does it look?",
    "alignment": "How well does it match the sentence?",
}
MOST_MODELS = 8  # people cannot keep a longer ranking in mind


@dataclass(frozen=True)
class Question:
    """One sentence and the motion of each model."""

    text: str
    motions: Mapping[str, np.ndarray]  # model -> joints (T, J, 3), metres, Y up, the floor at y = 0


@dataclass(frozen=True)
class Key:
    """What the page does not reveal: the sentences of the questions, and the model of each take."""

    study: str
    title: str
    models: tuple[str, ...]
    texts: Mapping[str, str]  # question -> sentence
    takes: Mapping[str, Mapping[str, str]]  # question -> take -> model
    checks: Mapping[str, str]  # attention check -> the take that must rank last

    @classmethod
    def read(cls, path: Path) -> Key:
        """Read the key beside a page; UserStudyError if it is another file."""
        if not path.is_file():
            raise UserStudyError(f"{path}: no such file. Give the .key.json beside the page.")
        content = read_json(path)
        try:
            key = cls(**content | {"models": tuple(content["models"])})
            if key.takes.keys() != key.texts.keys() or not key.checks.keys() <= key.takes.keys():
                raise ValueError("its questions do not fit together")
            models = {frozenset(takes.values()) for question, takes in key.takes.items() if question not in key.checks}
            if models != {frozenset(key.models)}:
                raise ValueError("a question lacks a model")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserStudyError(
                f"{path}: not the key of a user study ({error}). Give the .key.json beside the page."
            ) from error
        return key


def write_user_study(
    page: Path, questions: Sequence[Question], *, title: str, fps: float, checks: int = 0, seed: int = 0
) -> Path:
    """Write the page and, beside it, its key; return the key's path.

    The ids in the page are random, so that the model of a take cannot be computed. Questions and takes are stored in
    the order of their ids; the page shows them to each participant in another order. checks: number of additional
    questions, on sentences drawn by the seed, in which one body is upside down. Participants who do not rank it last
    fail the attention check. UserStudyError if the questions do not fit together, or if the key exists already and may
    be needed for answers.
    """
    models = _models(questions)
    key_path = checked_key(page, len(questions), checks)
    secret = secrets.token_hex(16)
    entries, spoiled = _entries(questions, checks, np.random.default_rng(seed), secret)
    scenes = [
        Scene(text, tuple(Take(take, joints) for take, (_, joints) in takes.items()))
        for text, takes in entries.values()
    ]
    try:
        motions = payload(checked(scenes), fps)
    except ValueError as error:
        raise UserStudyError(str(error)) from error
    shown = [{"id": name, "takes": list(takes)} for name, (_, takes) in entries.items()]
    study = _identity(secret)
    text = document(
        "userstudy.html",
        "adaqf_train.userstudy",
        title=title,
        criteria=CRITERIA,
        questions=scenes,
        motions=motions,
        asking={"study": study, "criteria": list(CRITERIA), "questions": shown},
    )
    key = {
        "study": study,
        "title": title,
        "models": models,
        "texts": {name: text for name, (text, _) in entries.items()},
        "takes": {name: {take: model for take, (model, _) in takes.items()} for name, (_, takes) in entries.items()},
        "checks": spoiled,
    }
    write_json(key_path, key)
    with atomic_file(page) as staging:
        staging.write_text(text, encoding="utf-8")
    return key_path


def _entries(
    questions: Sequence[Question], checks: int, rng: np.random.Generator, secret: str
) -> tuple[dict[str, tuple[str, dict[str, tuple[str, np.ndarray]]]], dict[str, str]]:
    """Assign identifiers to questions and attention checks.

    The first result is {question: (sentence, {take: (model, joints)})} in the order of the identifiers, the second one
    {attention check: the take that must rank last}.
    """
    failing = [_check(questions[i], rng) for i in rng.permutation(len(questions))[:checks]]
    entries, spoiled = {}, {}
    for number, (question, last) in enumerate([*((q, None) for q in questions), *failing]):
        name = _identity(secret, number)
        takes = {_identity(secret, number, model): (model, joints) for model, joints in question.motions.items()}
        entries[name] = question.text, dict(sorted(takes.items()))
        if last is not None:
            spoiled[name] = _identity(secret, number, last)
    return dict(sorted(entries.items())), spoiled


def checked_key(page: Path, prompts: int, checks: int) -> Path:
    """Return the path of a page's key; UserStudyError if it exists or cannot be written, or for too many checks."""
    if not 0 <= checks <= prompts:
        raise UserStudyError(f"{checks} attention checks for {prompts} prompts: give 0 to {prompts}.")
    key_path = page.with_suffix(".key.json")
    if key_path.exists():
        raise UserStudyError(
            f"{key_path}: already exists, and answers to its user study mean nothing without it. Give another --out."
        )
    if reason := unwritable(page):
        raise UserStudyError(f"{reason}. Give another --out.")
    return key_path


def _models(questions: Sequence[Question]) -> list[str]:
    if not questions:
        raise UserStudyError("No prompts: a user study needs at least one.")
    models = sorted(questions[0].motions)
    for question in questions:
        if sorted(question.motions) != models:
            raise UserStudyError(
                f"{question.text!r} has motions of {', '.join(sorted(question.motions))}, other prompts of "
                f"{', '.join(models)}. Every model must have a motion for every prompt."
            )
    if not 2 <= len(models) <= MOST_MODELS:
        raise UserStudyError(f"{len(models)} models ({', '.join(models)}): people can rank 2 to {MOST_MODELS}.")
    return models


def _check(question: Question, rng: np.random.Generator) -> tuple[Question, str]:
    """The same sentence with one model's body upside down, and that model."""
    model = sorted(question.motions)[rng.integers(len(question.motions))]
    joints = np.asarray(question.motions[model], dtype=np.float64)
    path = joints[:, :1] * (1, 0, 1)
    # Turned about the x axis, so that the hips keep their sides: the camera finds the front by them.
    turned = path + (joints - path) * (1, -1, -1) + (0, joints[..., 1].max(), 0)
    return Question(question.text, {**question.motions, model: turned}), model


def _identity(secret: str, *parts: object) -> str:
    return hashlib.sha256("/".join(map(str, (secret, *parts))).encode()).hexdigest()[:16]
