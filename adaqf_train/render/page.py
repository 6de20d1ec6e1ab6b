"""One self-contained HTML page that plays motions side by side: ground truth, baseline and AdaQF on the same prompts.

The page needs neither network nor server: scripts, style and motions are inlined, so it opens from a mail attachment
or a `file://` address. Its layout is `templates/page.html`, its look `page.css`, its player `player.js`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from adaclip.files import atomic_file
from adaqf_train.motion.physics import skating
from adaqf_train.motion.skeleton import skeleton_of
from adaqf_train.render.html import document
from adaqf_train.render.payload import Scene, Take, checked, payload

__all__ = ["Scene", "Take", "write_page"]


def write_page(
    path: Path,
    scenes: Sequence[Scene],
    *,
    title: str,
    fps: float,
    summary: Sequence[Mapping[str, str]] = (),
    more: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    picture: Path | None = None,
    grid: bool = False,
) -> Path:
    """Write a page that plays motions, and return its path; the file appears whole or not at all.

    scenes: captions with the motions to compare on each; the page escapes all text. fps: of every take. summary: rows
    of a small table at the top, whose keys are the names of the columns, in order. more: further tables by title, below
    it and folded, so that the motions come first. picture: an SVG file to show beside them, inlined. grid: place the
    scenes side by side, which suits scenes of one take, instead of one below the other. ValueError names the scene of a
    take that cannot be shown.
    """
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps is {fps}: expected the frames per second of the joints, such as 20.")
    clips, shown = checked(scenes), []
    for scene, motions in zip(scenes, clips, strict=True):
        pairs = zip(scene.takes, motions, strict=True)
        takes = tuple(replace(take, metrics={**figures(joints, fps), **take.metrics}) for take, joints in pairs)
        shown.append(replace(scene, takes=takes))
    text = document(
        "page.html",
        title=title,
        summary=summary,
        more={title: rows for title, rows in (more or {}).items() if rows},
        picture=Markup("") if picture is None else svg_of(picture),
        layout="grid" if grid else "column",
        scenes=shown,
        motions=payload(clips, fps),
    )
    with atomic_file(Path(path)) as staging:
        staging.write_text(text, encoding="utf-8")
    return Path(path)


def svg_of(path: Path) -> Markup:
    """Read the element of an SVG file, without the declarations before it."""
    _, start, content = path.read_text(encoding="utf-8").partition("<svg")
    return Markup(start + content)


def figures(joints: np.ndarray, fps: float) -> dict[str, str]:
    """Describe a motion (T, J, 3) in metres: its length, the length of its path, and how much its feet slide."""
    skeleton = replace(skeleton_of(joints.shape[1]), fps=fps, units_per_metre=1.0)
    found = {"length": f"{len(joints) / fps:.1f} s"}
    if len(joints) > 1:
        steps = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1)
        found |= {"path": f"{steps.sum():.1f} m", "skating": f"{100 * skating(joints, skeleton):.0f} %"}
    return found
