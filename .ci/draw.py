"""Draw the pictures of docs/how-it-works.md, the method and the features: `python .ci/draw.py docs/images`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from adaqf_train.motion.features import SLICES
from adaqf_train.motion.skeleton import HUMANML3D
from adaqf_train.procedural import generate

INK, SOFT, PAPER = "#23262b", "#5d636c", "#fbfaf6"
FROZEN, TRAINED, LOSS, DATA = "#dfe3e8", "#f6d9a8", "#f3c6bd", "#ffffff"
LEFT, MIDDLE, RIGHT = "#2f7fb8", "#8d8a82", "#e08a1e"
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
GROUPS = {  # slice: what a reader calls it, colour
    "root_rot_velocity": ("turn", "#e8c1a0"),
    "root_linear_velocity": ("velocity", "#f1d9a7"),
    "root_height": ("height", "#d9d2a3"),
    "positions": ("positions of 21 joints", "#b9d3a8"),
    "rotations": ("rotations of 21 joints", "#a9cdd0"),
    "velocities": ("velocities of 22 joints", "#b3bfe0"),
    "contacts": ("contacts", "#d7b5d8"),
}


def text(x: float, y: float, words: str, size: int = 13, anchor: str = "middle", colour: str = INK) -> str:
    """One line of text."""
    place = f"x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}' fill='{colour}'"
    return f"<text {place} {FONT}>{escape(words)}</text>"


def box(x: float, y: float, width: float, height: float, lines: Sequence[str], fill: str) -> str:
    """A rectangle with centred lines; the first is larger."""
    shape = f"<rect x='{x}' y='{y}' width='{width}' height='{height}' rx='7' fill='{fill}' stroke='{SOFT}'/>"
    top = y + height / 2 - 8.5 * (len(lines) - 1) + 5
    words = (
        text(x + width / 2, top + 17 * i, line, 11 if i else 13, colour=SOFT if i else INK)
        for i, line in enumerate(lines)
    )
    return shape + "".join(words)


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    """A line through the points with a head at its end."""
    line = " ".join(f"{x:g},{y:g}" for x, y in points)
    dash = " stroke-dasharray='5 4'" if dashed else ""
    return f"<polyline points='{line}' fill='none' stroke='{INK}' stroke-width='1.4' marker-end='url(#head)'{dash}/>"


def picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    """An SVG file, readable on light and dark pages because it has its own background."""
    head = (
        f"<marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0L10 5L0 10z' fill='{INK}'/></marker>"
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img'>\n<title>{escape(title)}</title>\n<defs>{head}</defs>\n"
        f"<rect width='{width}' height='{height}' rx='10' fill='{PAPER}'/>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def method() -> str:
    """AdaQF's training step: which networks learn, and what the three losses compare."""
    parts = [
        box(20, 60, 150, 62, ["prompt", "“a person waves twice”"], DATA),
        box(215, 52, 165, 78, ["CLIP text encoder", "frozen weights", "+ LoRA adapter"], TRAINED),
        box(425, 52, 150, 78, ["denoiser", "reads tokens,", "predicts x̂₀"], TRAINED),
        box(625, 60, 150, 62, ["generated motion x̂₀", "of this step"], DATA),
        box(20, 195, 150, 62, ["real motion x₀", "of the prompt"], DATA),
        box(215, 200, 165, 52, ["noise", "timestep t of 50"], DATA),
        box(425, 195, 150, 62, ["L_mse", "x̂₀ against x₀"], LOSS),
        box(20, 345, 150, 62, ["text extractor E_T", "frozen"], FROZEN),
        box(215, 345, 165, 62, ["motion extractor E_M", "frozen, real motion"], FROZEN),
        box(625, 345, 150, 62, ["motion extractor E_M", "the same network"], FROZEN),
        box(425, 310, 150, 54, ["λ_M · L_M", "cosine to the real motion"], LOSS),
        box(425, 388, 150, 54, ["λ_T · L_T", "cosine to the text"], LOSS),
        arrow((170, 91), (215, 91)),
        arrow((380, 91), (425, 91)),
        arrow((575, 91), (625, 91)),
        arrow((170, 226), (215, 226)),
        arrow((345, 200), (345, 160), (500, 160), (500, 130)),
        arrow((95, 257), (95, 285), (500, 285), (500, 257)),
        arrow((297, 285), (297, 345)),
        arrow((675, 122), (675, 226), (575, 226)),
        arrow((715, 122), (715, 345)),
        arrow((380, 368), (402, 368), (402, 337), (425, 337)),
        arrow((625, 368), (600, 368), (600, 337), (575, 337)),
        arrow((600, 368), (600, 415), (575, 415)),
        arrow((95, 407), (95, 430), (425, 430)),
        arrow((20, 91), (8, 91), (8, 376), (20, 376)),
        text(420, 158 - 6, "x_t", 12, colour=SOFT),
        text(400, 28, "One step of AdaQF: all three losses train the denoiser and the adapter", 15),
        *legend(470),
    ]
    return picture(800, 500, "AdaQF's training step", parts)


def legend(y: float) -> list[str]:
    """What the colours of the method's boxes mean."""
    parts = []
    for x, fill, words in ((150, TRAINED, "learns"), (270, FROZEN, "frozen"), (390, LOSS, "loss"), (490, DATA, "data")):
        parts.append(f"<rect x='{x}' y='{y - 12}' width='24' height='16' rx='3' fill='{fill}' stroke='{SOFT}'/>")
        parts.append(text(x + 32, y + 1, words, 12, "start"))
    return parts


def body(x: float, y: float, scale: float) -> list[str]:
    """The skeleton's joints with their numbers, on a pose with both arms raised."""
    poses = np.concatenate([clip.joints for clip in generate(40, seed=3)])
    spread = np.abs(poses[:, 20] - poses[:, 21])[:, 0] - np.abs(poses[:, 7] - poses[:, 8])[:, 1]
    pose = poses[spread.argmax()]
    across, up = pose[:, 0] - 0.45 * pose[:, 2], pose[:, 1]  # from the front, a little from the side
    place = np.stack([x + scale * (across - (across.min() + across.max()) / 2), y - scale * up], axis=1)
    side = [LEFT if n.startswith("left") else RIGHT if n.startswith("right") else MIDDLE for n in HUMANML3D.joints]
    parts = []
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            (x1, y1), (x2, y2) = place[joint], place[parent]
            ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
            parts.append(f"<line {ends} stroke='{side[joint]}' stroke-width='5' stroke-linecap='round'/>")
    for joint, (cx, cy) in enumerate(place):
        parts.append(f"<circle cx='{cx:.1f}' cy='{cy:.1f}' r='7.5' fill='{PAPER}' stroke='{side[joint]}'/>")
        parts.append(text(round(cx, 1), round(cy + 3, 1), str(joint), 8))
    return parts


def features() -> str:
    """The 263 numbers of a frame, and the skeleton whose joints they describe."""
    parts = [text(460, 30, "One frame of a motion: 263 numbers about 22 joints", 15), *body(120, 330, 165)]
    parts.append(text(120, 362, "22 joints, as in SMPL", 12, colour=SOFT))
    left, width, y = 260, 640, 90
    notes = {
        "root_rot_velocity": "half of the turn to the next frame, radians",
        "root_linear_velocity": "of the pelvis along the floor, seen from the body, metres a frame",
        "root_height": "of the pelvis above the floor, metres",
        "positions": "relative to the point below the pelvis, facing +Z, metres",
        "rotations": "along the chains of joints, two columns of each matrix",
        "velocities": "seen from the body, metres a frame",
        "contacts": "0 or 1: left ankle, left toe, right ankle, right toe",
    }
    for row, (name, (label, colour)) in enumerate(GROUPS.items()):
        start, stop = getattr(SLICES, name).start, getattr(SLICES, name).stop
        x, w = left + width * start / 263, width * (stop - start) / 263
        parts.append(f"<rect x='{x:.1f}' y='{y}' width='{w:.1f}' height='44' fill='{colour}' stroke='{SOFT}'/>")
        line = y + 84 + 29 * row
        parts.append(
            f"<rect x='{left}' y='{line - 12}' width='16' height='16' rx='3' fill='{colour}' stroke='{SOFT}'/>"
        )
        span = str(start) if stop - start == 1 else f"{start} to {stop - 1}"
        parts.append(text(left + 26, line + 1, label, 13, "start"))
        parts.append(text(left + 262, line + 1, span, 12, "end", SOFT))
        parts.append(text(left + 280, line + 1, notes[name], 11, "start", SOFT))
    return picture(920, 390, "The 263 features of a frame", parts)


def main() -> None:
    """Write both pictures into the folder that the command names."""
    folder = Path(sys.argv[1])
    for draw in (method, features):
        (folder / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
