"""One self-contained HTML page that plays motions side by side: ground truth, baseline and AdaQF on the same prompts.

The page needs no network and no server: script, style and motions are inlined, so it opens from a mail attachment or
a `file://` address. The player is `player.js`, its look `page.css`, both beside this module.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from adaclip.files import atomic_file
from adaqf_train.motion.physics import skating
from adaqf_train.motion.skeleton import skeleton_of
from adaqf_train.render.payload import Scene, Take, checked, payload, script_json

__all__ = ["Scene", "Take", "write_page"]


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
    clips = checked(scenes)
    cards = "\n".join(_card(scene, motions, fps) for scene, motions in zip(scenes, clips, strict=True))
    text = PAGE.format(
        title=html.escape(title),
        style=packaged("page.css"),
        summary=_table(summary),
        legend=LEGEND,
        layout="grid" if grid else "column",
        scenes=cards,
        transport=transport(),
        payload=script_json(payload(clips, fps)),
        script=packaged("player.js"),
    )
    with atomic_file(Path(path)) as staging:
        staging.write_text(text, encoding="utf-8")
    return Path(path)


def packaged(name: str) -> str:
    """A script or style that lies beside this module."""
    return resources.files("adaqf_train.viewing").joinpath(name).read_text(encoding="utf-8")


def transport() -> str:
    """The bar that plays all takes."""
    speeds = (f'<option value="{speed}"{" selected" if speed == 1 else ""}>{speed}\u00d7</option>' for speed in SPEEDS)
    return TRANSPORT.format(speeds="".join(speeds))


def figures(joints: np.ndarray, fps: float) -> dict[str, str]:
    """What a motion (T, J, 3) in metres says about itself: how long, how far its root goes, how much its feet slide."""
    skeleton = replace(skeleton_of(joints.shape[1]), fps=fps, units_per_metre=1.0)
    found = {"length": f"{len(joints) / fps:.1f} s"}
    if len(joints) > 1:
        steps = np.linalg.norm(np.diff(joints[:, 0, [0, 2]], axis=0), axis=-1)
        found |= {"path": f"{steps.sum():.1f} m", "skating": f"{100 * skating(joints, skeleton):.0f} %"}
    return found


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


def _card(scene: Scene, motions: Sequence[np.ndarray], fps: float) -> str:
    caption = html.escape(scene.caption)
    takes = []
    for take, joints in zip(scene.takes, motions, strict=True):
        label = html.escape(take.label)
        note = f"<small>{html.escape(take.note)}</small>" if take.note else ""
        metrics = {**figures(joints, fps), **take.metrics}
        shown = "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
            for name, value in metrics.items()
        )
        takes.append(
            f'<figure class="take"><figcaption><strong>{label}</strong>{note}</figcaption>'
            f'<canvas role="img" aria-label="{label}: {caption}"></canvas><dl class="metrics">{shown}</dl></figure>'
        )
    more = "".join(f"<li>{html.escape(text)}</li>" for text in scene.more)
    more = f'<ul class="more">{more}</ul>' if more else ""
    return (
        f'<section class="scene"><h2>{caption}</h2>{more}'
        f'<div class="takes" tabindex="0" role="group" aria-label="Takes of: {caption}. Shift and arrows orbit.">'
        f"{''.join(takes)}</div></section>"
    )


SPEEDS = (0.25, 0.5, 0.75, 1, 1.5, 2)

LEGEND = """<ul class="legend" aria-label="Legend">
<li><i class="key left"></i>left limbs</li>
<li><i class="key right"></i>right limbs</li>
<li title="Drawn where a toe is lower than 5 cm and slower than 0.5 m/s">
<i class="key print"></i>foot on the ground (a smear: it slides)</li>
<li><i class="key trail"></i>path of the pelvis</li>
<li><i class="key cell"></i>1 m</li>
</ul>"""

TRANSPORT = """<div class="transport" role="group" aria-label="Playback of all takes">
<button id="play" type="button" aria-label="Play">
<svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true">
<path class="go" d="M5 2.5v15l12.5-7.5z"/><path class="halt" d="M4 3h4.2v14H4zM11.8 3H16v14h-4.2z"/></svg></button>
<input id="scrub" type="range" min="0" max="1" step="any" value="0" aria-label="Time">
<output id="clock" for="scrub">0.00 / 0.00 s</output>
<label class="speed">Speed <select id="speed">{speeds}</select></label>
<label><input id="loop" type="checkbox" checked> Loop</label>
<label title="The camera goes along with each body"><input id="follow" type="checkbox"> Follow</label>
<p class="hint keys"><kbd>space</kbd> play <kbd>&larr;</kbd> <kbd>&rarr;</kbd> frame <kbd>Home</kbd> <kbd>End</kbd>
<kbd>&minus;</kbd> <kbd>+</kbd> speed <kbd>i</kbd> <kbd>o</kbd> zoom <kbd>f</kbd> follow <kbd>t</kbd> theme
&middot; drag: orbit &middot; Ctrl or held button + wheel: zoom &middot; double-click: reset</p>
<p class="hint touch">drag: orbit &middot; two fingers: zoom and orbit &middot; double tap: reset</p>
</div>"""

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
{legend}
</header>
<noscript><p>The motions are drawn by a script inside this file. Allow scripts to see them.</p></noscript>
<main class="{layout}">
{scenes}
</main>
{transport}
<script type="application/json" id="adaclip-data">{payload}</script>
<script>
{script}</script>
</body>
</html>
"""
