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

STEP = 0.001  # metres; a millimetre is well under a pixel at any sensible zoom
FARTHEST = 500.0  # metres from the origin; beyond it the positions are in millimetres, not metres
CONTACT_HEIGHT = 0.05  # metres above the floor; toe joints of a flat foot are 2 to 4.5 cm above it
CONTACT_SPEED = 0.5  # metres per second
LEG = 0.82  # metres, thigh + shank of HumanML3D's target skeleton: the body all radii below are for
RADII = {  # metres, of the flesh around a limb's joint
    "hip": 0.078,
    "knee": 0.052,
    "ankle": 0.038,
    "midfoot": 0.034,
    "foot": 0.030,
    "toe": 0.024,
    "shoulder": 0.052,
    "elbow": 0.039,
    "wrist": 0.029,
}
ASPECT = 1.1  # width / height of every canvas; page.css has the same number
FIELD_OF_VIEW = 0.5  # radians, vertical; narrow, so that a body keeps its proportions wherever it stands
PITCH = 0.25  # radians the camera looks down: enough to read paths and footprints on the floor
MARGIN = 0.95  # share of the canvas that the whole motion fills, at most
ROOM = 0.15  # metres left free around every joint, for the flesh and the head


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


def write_page(
    path: Path,
    scenes: Sequence[Scene],
    *,
    title: str,
    fps: float,
    summary: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Write the page and return its path; the file appears whole or not at all.

    fps: frames per second of every take. summary: rows of a small table shown on top, keys = column names in order.
    Captions, labels and notes are plain text: they are escaped. A ValueError names the scene and take it is about.
    """
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps is {fps}: expected the frames per second of the joints, such as 20.")
    if not scenes:
        raise ValueError("No scenes: a page needs at least one Scene, with at least one Take.")
    clips = [_checked_takes(index, scene) for index, scene in enumerate(scenes)]
    text = _document(scenes, _payload(clips, fps), title, summary)

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
        "bodies": {str(joints): _body(skeleton) for joints, skeleton in skeletons.items()},
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


def _body(skeleton: Skeleton) -> dict[str, Any]:
    """How the player wraps a skeleton in flesh: parts, each the convex hull of a few balls.

    A ball is {of: [[joint, weight], ...], ahead, radius}: its centre is that sum of joints (the weights add up to 1,
    so it may lie beyond a bone's end, where hands, heels and the skull are) moved `ahead` metres to where the body
    faces. A part's first and last ball are its axis. Metres are for a body whose legs are LEG long.
    """
    names = [name.partition("_") for name in skeleton.joints]  # ("left", "_", "knee"); the spine has no side
    (spine,) = [chain for chain in skeleton.chains if not any(names[joint][2] for joint in chain)]
    root, _, waist, *_, neck, head = spine
    hips, shoulders = (
        (skeleton.left_hip, skeleton.right_hip),
        (skeleton.left_shoulder, skeleton.right_shoulder),
    )

    def ball(of: int | Mapping[int, float], radius: float, ahead: float = 0.0) -> dict[str, Any]:
        weights = of if isinstance(of, Mapping) else {of: 1.0}
        return {"of": [[joint, weight] for joint, weight in weights.items()], "radius": radius, "ahead": ahead}

    def beyond(base: int, tip: int, share: float) -> dict[int, float]:
        return {tip: 1 + share, base: -share}

    skull = ball({head: 1.3, neck: -0.16, root: -0.14}, 0.1, ahead=0.01)
    jaw = ball({head: 1.08, neck: -0.04, root: -0.04}, 0.068, ahead=0.045)
    chest = ball({waist: 0.55, neck: 0.45}, 0.115, ahead=0.015)
    trunk = [
        [ball(neck, 0.05), ball(head, 0.05)],
        [jaw, skull],
        [ball(neck, 0.055), *(ball(joint, 0.05) for joint in shoulders), chest, ball(waist, 0.1)],
        [ball(waist, 0.1), *(ball(joint, 0.085) for joint in hips), ball(root, 0.1)],
    ]
    parts = [{"tone": "body", "balls": balls} for balls in trunk]
    for joint, parent in enumerate(skeleton.parents):  # a limb: a bone between two fleshy joints
        side, _, part = names[joint]
        if part in RADII and names[parent][2] in RADII:
            parts.append({"tone": side, "balls": [ball(parent, RADII[names[parent][2]]), ball(joint, RADII[part])]})
    feet = []
    for chain in skeleton.chains:
        side, _, part = names[chain[-1]]
        if part == "wrist":
            elbow, wrist = chain[-2:]
            palm, tips = ball(beyond(elbow, wrist, 0.24), 0.04), ball(beyond(elbow, wrist, 0.48), 0.026)
            parts.append({"tone": side, "balls": [ball(wrist, 0.03), palm, tips]})
        elif names[chain[1]][2] == "hip":
            knee, ankle, toe = chain[2], chain[3], chain[-1]
            heel = ball({ankle: 1.44, knee: -0.14, toe: -0.3}, 0.034)
            parts.append({"tone": side, "balls": [heel, ball(ankle, 0.036), ball(beyond(ankle, toe, 0.25), 0.026)]})
            feet.append([ankle, toe, side])
    return {"parts": parts, "feet": sorted(feet, key=lambda foot: foot[2]), "hips": hips}


# The camera -----------------------------------------------------------------------------------------------------


def camera(clips: Sequence[np.ndarray]) -> dict[str, Any]:
    """The view that a scene's takes (T, J, 3) share: from in front, at the angle that brings their motion closest.

    Returns yaw and pitch in radians (yaw 0 looks from +Z), the target point, the distance from it in metres, and
    the radius in metres of the ground the motion covers around the target.
    """
    seen = []
    for clip in clips:
        moments = clip[np.unique(np.linspace(0, len(clip) - 1, 40).astype(int))]
        seen += [moments.reshape(-1, 3), moments[:, 0] * (1, 0, 1)]
    points = np.concatenate(seen)
    skeleton = skeleton_of(clips[0].shape[1])
    across = clips[0][0, skeleton.left_hip] - clips[0][0, skeleton.right_hip]
    front = math.atan2(-across[2], across[0])  # across turned by 90 degrees, as an angle from +Z

    views = []
    for turn in np.radians((30, -30, 45, -45, 60, -60, 75, -75)):
        target, distance = _fitted(points, front + turn)
        views.append((distance * (1 + 0.25 * abs(turn)), front + turn, target, distance))
    _, yaw, target, distance = min(views, key=lambda view: view[0])
    return {
        "yaw": round(float(yaw), 3),
        "pitch": PITCH,
        "target": target.round(3).tolist(),
        "distance": round(distance, 3),
        "ground": round(max(2.0, float(np.linalg.norm((points - target)[:, [0, 2]], axis=1).max())), 2),
    }


def _fitted(points: np.ndarray, yaw: float) -> tuple[np.ndarray, float]:
    """Target (3,) and distance of the nearest camera that has all points (P, 3) in view, with ROOM around them.

    In the camera's axes (x right, y up, z towards the eye) a point is inside the left and right edges when
    |x - eye_x| + ROOM <= slope * (eye_z - z): linear in the eye, so each pair of edges has a closed solution.
    """
    sin, cos, rise, level = math.sin(yaw), math.cos(yaw), math.sin(PITCH), math.cos(PITCH)
    axes = np.array(((cos, 0, -sin), (-sin * rise, level, -cos * rise), (sin * level, rise, cos * level)))
    x, y, z = axes @ points.T
    eye, depths = [], []
    slope = MARGIN * math.tan(FIELD_OF_VIEW / 2)
    for side, slope_here in ((x, ASPECT * slope), (y, slope)):
        high, low = (side + slope_here * z).max() + ROOM, (-side + slope_here * z).max() + ROOM
        eye.append((high - low) / 2)
        depths.append((high + low) / 2 / slope_here)
    middle = (z.min() + z.max()) / 2
    return np.array((*eye, middle)) @ axes, float(max(depths) - middle)


# The document ---------------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    """JSON that is safe inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _document(
    scenes: Sequence[Scene], payload: Mapping[str, Any], title: str, summary: Sequence[Mapping[str, str]]
) -> str:
    folder = resources.files(__package__)
    script = folder.joinpath("player.js").read_text(encoding="utf-8")
    style = folder.joinpath("page.css").read_text(encoding="utf-8")
    return PAGE.format(
        title=html.escape(title),
        style=style,
        summary=_table(summary),
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
    return (
        f'<section class="scene"><h2>{caption}</h2>'
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
<main>
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
