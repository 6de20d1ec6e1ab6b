"""One self-contained HTML page that plays motions side by side: ground truth, baseline and AdaQF on the same prompts.

The page needs no network and no server: script, style and motions are inlined, so it opens from a mail attachment or
a `file://` address. The player is `player.js`, its look `page.css`, both beside this module.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.viewing.camera import FIELD_OF_VIEW, camera
from adaqf_train.viewing.flesh import LEG, body

STEP = 0.001  # metres; a millimetre is well under a pixel at any sensible zoom
FARTHEST = 500.0  # metres from the origin; beyond it the positions are in millimetres, not metres
CONTACT_HEIGHT = 0.05  # metres above the floor; toe joints of a flat foot are 2 to 4.5 cm above it
CONTACT_SPEED = 0.5  # metres per second


@dataclass(frozen=True)
class Take:
    """One body in one scene.

    joints: (T, J, 3), metres, Y up, the floor at y = 0; J = 22 (HumanML3D) or 21 (KIT-ML).
    """

    label: str  # "ground truth", "baseline", "AdaQF"
    joints: np.ndarray
    note: str = ""  # small text under the label


@dataclass(frozen=True)
class Scene:
    """One caption and the takes to compare on it; they share a camera."""

    caption: str
    takes: tuple[Take, ...]
    more: tuple[str, ...] = ()  # other captions of the same motion, in small text


def write_page(
    path: Path,
    scenes: Sequence[Scene],
    *,
    title: str,
    fps: float,
    summary: Sequence[Mapping[str, str]] = (),
    grid: bool = False,
) -> Path:
    """Write the page and return its path; the file appears whole or not at all.

    fps: frames per second of every take. summary: rows of a small table shown on top, keys = column names in order.
    grid: several scenes side by side, for scenes of one take; False: one below the other.
    Captions, labels and notes are plain text: they are escaped. A ValueError names the scene and take it is about.
    """
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps is {fps}: expected the frames per second of the joints, such as 20.")
    if not scenes:
        raise ValueError("No scenes: a page needs at least one Scene, with at least one Take.")
    clips = [_checked_takes(index, scene) for index, scene in enumerate(scenes)]
    text = _document(scenes, _payload(clips, fps), title, summary, grid)

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _checked_takes(index: int, scene: Scene) -> list[np.ndarray]:
    """The scene's motions as float64 arrays (T, J, 3), or a ValueError that says which take is wrong and why."""
    where = f"Scene {index} ({_shortened(scene.caption)})"
    if not scene.takes:
        raise ValueError(f"{where} has no takes: give it at least one Take, or leave the scene out.")
    clips = []
    for number, take in enumerate(scene.takes):
        here = f"{where}, take {number} ({_shortened(take.label)})"
        try:
            joints = np.asarray(take.joints, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{here}: joints are not an array of numbers ({error}). Expected (T, J, 3).") from error
        if joints.ndim != 3 or joints.shape[2] != 3 or joints.shape[0] == 0:
            raise ValueError(
                f"{here}: joints have shape {joints.shape}, expected (T, J, 3) with at least one frame. "
                "Features? Convert them with motion.features.decode first; a batch is one Take per clip."
            )
        try:
            skeleton_of(joints.shape[1])
        except ValueError as error:
            raise ValueError(f"{here}: {error} Choose or retarget the joints first.") from error
        bad = ~np.isfinite(joints).all(axis=(1, 2))
        if bad.any():
            raise ValueError(
                f"{here}: {bad.sum()} of {len(bad)} frames hold NaN or infinity, the first is frame {bad.argmax()}. "
                "Did the model diverge? Drop the take or fix what made it."
            )
        farthest = np.abs(joints).max()
        if farthest > FARTHEST:
            raise ValueError(
                f"{here}: a joint is {farthest:.0f} m from the origin. Millimetres? Divide by 1000; expected metres."
            )
        clips.append(joints)
    return clips


def _shortened(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 3] + "...")


# The payload ----------------------------------------------------------------------------------------------------


def _payload(clips: Sequence[Sequence[np.ndarray]], fps: float) -> dict[str, Any]:
    """What the player reads: clips[scene][take] are (T, J, 3) in metres."""
    skeletons = {clip.shape[1]: skeleton_of(clip.shape[1]) for scene in clips for clip in scene}
    return {
        "fps": fps,
        "step": STEP,
        "fieldOfView": FIELD_OF_VIEW,
        "bodies": {str(joints): body(skeleton) for joints, skeleton in skeletons.items()},
        "scenes": [
            {"camera": camera(scene), "takes": [_packed(clip, skeletons[clip.shape[1]], fps) for clip in scene]}
            for scene in clips
        ],
    }


def _packed(joints: np.ndarray, skeleton: Skeleton, fps: float) -> dict[str, Any]:
    """One motion (T, J, 3): its size, the body's size relative to LEG, and its positions as text."""
    knee, ankle = skeleton.leg
    hip = skeleton.parents[knee]
    leg = np.linalg.norm(joints[:, [knee, ankle]] - joints[:, [hip, knee]], axis=-1).sum(axis=1)
    return {
        "frames": joints.shape[0],
        "joints": joints.shape[1],
        "size": round(float(np.clip(np.median(leg) / LEG, 0.3, 3.0)), 3),
        "contacts": contacts(joints, skeleton, fps),
        "data": pack(joints),
    }


def contacts(joints: np.ndarray, skeleton: Skeleton, fps: float) -> list[list[int]]:
    """When a toe of joints (T, J, 3) stands on the ground: [foot, first frame, last frame] of every contact.

    foot: 0 left, 1 right. A foot stands while its toe is lower than CONTACT_HEIGHT and slower than CONTACT_SPEED.
    """
    found = []
    for foot, (_, toe) in enumerate((skeleton.left_foot, skeleton.right_foot)):
        path = joints[:, toe]
        speed = np.linalg.norm(np.gradient(path, 1 / fps, axis=0), axis=-1) if len(path) > 1 else np.zeros(1)
        stands = (path[:, 1] < CONTACT_HEIGHT) & (speed < CONTACT_SPEED)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], stands, [False]))))
        found += [[foot, int(first), int(end) - 1] for first, end in edges.reshape(-1, 2)]
    return found


def pack(joints: np.ndarray) -> str:
    """Positions (T, J, 3) as base64 of zigzag varints: differences between frames, in whole STEPs.

    The positions are rounded first and then differenced, so errors do not add up: each is at most half a STEP. Most
    differences fit one byte, which makes the text a little more than half as long as plain int16 would be.
    """
    steps = np.rint(np.asarray(joints, dtype=np.float64) / STEP).astype(np.int64)
    change = np.diff(steps, axis=0, prepend=0).reshape(-1)
    zigzag = (change << 1) ^ (change >> 63)  # 0, -1, 1, -2 … become 0, 1, 2, 3 …
    place = np.arange(5)  # 5 groups of 7 bits hold any 32-bit number
    last = (zigzag[:, None] >= 128 ** place[1:]).sum(axis=1, keepdims=True)
    groups = (zigzag[:, None] >> (7 * place)) & 127 | np.where(place < last, 128, 0)
    return base64.b64encode(groups[place <= last].astype(np.uint8).tobytes()).decode("ascii")


# The document ---------------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    """JSON that is safe inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _document(
    scenes: Sequence[Scene],
    payload: Mapping[str, Any],
    title: str,
    summary: Sequence[Mapping[str, str]],
    grid: bool,
) -> str:
    folder = resources.files(__package__)
    script = folder.joinpath("player.js").read_text(encoding="utf-8")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    return PAGE.format(
        title=html.escape(title),
        style=style,
        summary=_table(summary),
        layout="grid" if grid else "column",
        scenes="\n".join(_card(scene) for scene in scenes),
        speeds="".join(
            f'<option value="{speed}"{" selected" if speed == 1 else ""}>{speed}\u00d7</option>' for speed in SPEEDS
        ),
        payload=_json(payload),
        script=script,
    )


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """The summary; a row may lack a column. Empty text without rows."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = []
    for row in rows:
        name, *cells = (html.escape(str(row.get(column, ""))) for column in columns)
        body.append(f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        '<div class="summary" tabindex="0" role="region" aria-label="Summary"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _card(scene: Scene) -> str:
    caption = html.escape(scene.caption)
    takes = []
    for take in scene.takes:
        label = html.escape(take.label)
        note = f"<small>{html.escape(take.note)}</small>" if take.note else ""
        takes.append(
            f'<figure class="take"><figcaption><strong>{label}</strong>{note}</figcaption>'
            f'<canvas role="img" aria-label="{label}: {caption}"></canvas></figure>'
        )
    more = "".join(f"<li>{html.escape(text)}</li>" for text in scene.more)
    more = f'<ul class="more">{more}</ul>' if more else ""
    return (
        f'<section class="scene"><h2>{caption}</h2>{more}'
        f'<div class="takes" tabindex="0" role="group" aria-label="Takes of: {caption}. Shift and arrows orbit.">'
        f"{''.join(takes)}</div></section>"
    )


SPEEDS = (0.25, 0.5, 0.75, 1, 1.5, 2)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<div class="heading"><h1>{title}</h1><button id="theme" type="button">Dark theme</button></div>
{summary}
<ul class="legend" aria-label="Legend">
<li><i class="key left"></i>left limbs</li>
<li><i class="key right"></i>right limbs</li>
<li title="Drawn where a toe is lower than 5 cm and slower than 0.5 m/s">
<i class="key print"></i>foot on the ground (a smear: it slides)</li>
<li><i class="key trail"></i>path of the pelvis</li>
<li><i class="key cell"></i>1 m</li>
</ul>
</header>
<noscript><p>The motions are drawn by a script inside this file. Allow scripts to see them.</p></noscript>
<main class="{layout}">
{scenes}
</main>
<div class="transport" role="group" aria-label="Playback of all takes">
<button id="play" type="button" aria-label="Play">
<svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
<path class="go" d="M5 2.5v15l12.5-7.5z"/><path class="halt" d="M4 3h4.2v14H4zM11.8 3H16v14h-4.2z"/></svg></button>
<input id="scrub" type="range" min="0" max="1" step="any" value="0" aria-label="Time">
<output id="clock" for="scrub">0.00 / 0.00 s</output>
<label class="speed">Speed <select id="speed">{speeds}</select></label>
<label><input id="loop" type="checkbox" checked> Loop</label>
<label title="The camera goes along with each body"><input id="follow" type="checkbox"> Follow</label>
<span class="hint">drag: orbit &middot; drag + wheel: zoom &middot; double-click: reset &middot;
space, arrows, Home, End, + and &minus;: playback</span>
</div>
<script type="application/json" id="adaclip-data">{payload}</script>
<script>
{script}</script>
</body>
</html>
"""
