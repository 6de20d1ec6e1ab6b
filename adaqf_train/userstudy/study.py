"""A ranking page without a model's name in it, and the key that says which motion is whose (the paper's A.8)."""

from __future__ import annotations

import hashlib
import html
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from adaclip.files import atomic_file, read_json, write_json
from adaqf_train.errors import UserStudyError
from adaqf_train.render.page import LEGEND, packaged, transport
from adaqf_train.render.payload import Scene, Take, checked, payload, script_json

CRITERIA = {  # what participants rank by (A.8), and how they are asked
    "realism": "How real does it look?",
    "alignment": "How well does it fit the sentence?",
}
MOST_MODELS = 8  # beyond it nobody keeps a ranking in mind


@dataclass(frozen=True)
class Question:
    """One sentence and what each model made of it."""

    text: str
    motions: Mapping[str, np.ndarray]  # model -> joints (T, J, 3), metres, Y up, the floor at y = 0


@dataclass(frozen=True)
class Key:
    """What the page does not say: questions by their ids, and whose take is whose."""

    study: str
    title: str
    models: tuple[str, ...]
    texts: Mapping[str, str]  # question -> sentence
    takes: Mapping[str, Mapping[str, str]]  # question -> take -> model
    checks: Mapping[str, str]  # question that only tests attention -> the take that must come last

    @classmethod
    def read(cls, path: Path) -> Key:
        """The key that was written beside a page; UserStudyError when it is another file."""
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
                f"{path}: not the key of a study ({error}). Give the .key.json beside the page."
            ) from error
        return key


def write_study(
    page: Path, questions: Sequence[Question], *, title: str, fps: float, checks: int = 0, seed: int = 0
) -> Path:
    """Writes the page and, beside it, its key; returns the key's path.

    checks: questions more, on sentences drawn by the seed, in which one body stands on its head: who does not rank it
    last was not looking. The ids in the page are drawn anew each time, so that nobody can compute whose motion a take
    is; questions and takes lie in the order of their ids, and every participant sees them in an order of their own.
    UserStudyError for questions that do not fit together, and where a key lies already: answers may be waiting for it.
    """
    models = _models(questions)
    key_path = checked_key(page, len(questions), checks)
    rng, secret = np.random.default_rng(seed), secrets.token_hex(16)
    checking = [_check(questions[i], rng) for i in rng.permutation(len(questions))[:checks]]
    asked: dict[str, dict[str, tuple[str, np.ndarray]]] = {}  # question -> take -> (model, joints), by their ids
    texts, spoiled = {}, {}
    for number, (question, model) in enumerate([*((q, None) for q in questions), *checking]):
        name = _identity(secret, number)
        takes = {_identity(secret, number, m): (m, joints) for m, joints in question.motions.items()}
        asked[name], texts[name] = dict(sorted(takes.items())), question.text
        if model is not None:
            spoiled[name] = _identity(secret, number, model)
    order = sorted(asked)
    study = _identity(secret)
    key = {
        "study": study,
        "title": title,
        "models": models,
        "texts": {name: texts[name] for name in order},
        "takes": {name: {take: model for take, (model, _) in asked[name].items()} for name in order},
        "checks": spoiled,
    }
    scenes = [
        Scene(texts[name], tuple(Take(take, joints) for take, (_, joints) in asked[name].items())) for name in order
    ]
    try:
        clips = checked(scenes)
    except ValueError as error:
        raise UserStudyError(str(error)) from error
    asking = {
        "study": study,
        "criteria": list(CRITERIA),
        "questions": [{"id": name, "takes": list(asked[name])} for name in order],
    }
    text = _document(title, scenes, payload(clips, fps), asking)
    write_json(key_path, key)
    with atomic_file(page) as staging:
        staging.write_text(text, encoding="utf-8")
    return key_path


def checked_key(page: Path, prompts: int, checks: int) -> Path:
    """The path of a page's key; UserStudyError if it cannot be written, exists already, or `checks` does not hold."""
    if not 0 <= checks <= prompts:
        raise UserStudyError(f"{checks} attention checks for {prompts} prompts: ask for 0 to {prompts}.")
    key_path = page.with_suffix(".key.json")
    if key_path.exists():
        raise UserStudyError(
            f"{key_path}: a study's key is there already, and without it its answers say nothing. Give another --out."
        )
    if page.is_dir():
        raise UserStudyError(f"{page}: is a folder. Give another --out.")
    folder = page.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserStudyError(f"{page}: {folder} cannot be written to. Give another --out.")
    return key_path


def _models(questions: Sequence[Question]) -> list[str]:
    if not questions:
        raise UserStudyError("No prompts: a study needs at least one.")
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
    # About the x axis: the hips keep their sides, from which the camera tells where the front is.
    turned = path + (joints - path) * (1, -1, -1) + (0, joints[..., 1].max(), 0)
    return Question(question.text, {**question.motions, model: turned}), model


def _identity(secret: str, *parts: object) -> str:
    return hashlib.sha256("/".join(map(str, (secret, *parts))).encode()).hexdigest()[:16]


# The document ---------------------------------------------------------------------------------------------------


def _document(title: str, scenes: Sequence[Scene], motions: Mapping[str, Any], asking: Mapping[str, Any]) -> str:
    criteria = (f"<li><strong>{name.capitalize()}</strong>: {question}</li>" for name, question in CRITERIA.items())
    return _packaged("study.html").format(
        title=html.escape(title),
        style=packaged("page.css") + _packaged("study.css"),
        legend=LEGEND,
        takes=len(scenes[0].takes),
        questions=len(scenes),
        criteria="".join(criteria),
        scenes="\n".join(_card(scene) for scene in scenes),
        transport=transport(),
        payload=script_json(motions),
        asking=script_json(asking),
        script=packaged("player.js"),
        study=_packaged("study.js"),
    )


def _packaged(name: str) -> str:
    return resources.files("adaqf_train.userstudy").joinpath(name).read_text(encoding="utf-8")


def _card(scene: Scene) -> str:
    """A question; study.js gives its takes their letters, their order and their ranks."""
    ranks = range(1, len(scene.takes) + 1)
    figure = "".join(
        f'<fieldset data-criterion="{name}"><legend>{name.capitalize()}</legend>'
        + "".join(f'<label><input type="radio" value="{rank}"><span>{rank}</span></label>' for rank in ranks)
        + "</fieldset>"
        for name in CRITERIA
    )
    figure = (
        f'<figure class="take"><figcaption><strong></strong></figcaption><canvas role="img"></canvas>{figure}</figure>'
    )
    return (
        f'<section class="scene" hidden><h2 tabindex="-1">{html.escape(scene.caption)}</h2>'
        f'<div class="takes" tabindex="0" role="group" aria-label="Motions to rank. Shift and arrows orbit.">'
        f"{figure * len(scene.takes)}</div></section>"
    )
