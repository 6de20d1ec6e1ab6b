"""Still pictures of a body on a floor, drawn with Pillow: what strips, GIFs and films are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.render.camera import FIELD_OF_VIEW, camera
from adaqf_train.render.flesh import LEG, body

SMOOTH = 2  # pictures are drawn that many times as large and reduced, which smooths their edges
EDGE = 64  # directions that a part's outline is drawn with
Colour = tuple[int, int, int]
# Colours of the page by day, as page.css has them.
SKY, FLOOR, GRID, INK, SOFT = map(ImageColor.getrgb, ("#fbfaf6", "#e6e3db", "#c4c0b6", "#23262b", "#5d636c"))
TONES: Mapping[str, Colour] = {
    tone: ImageColor.getrgb(colour) for tone, colour in (("body", "#c3beb4"), ("left", "#2f7fb8"), ("right", "#e08a1e"))
}
SHADOW, WHITE = ImageColor.getrgb("#1c2430"), (255, 255, 255)
SHADOW_STRENGTH = 48  # of 255
# A part is drawn in layers: (radius, shift towards the light in radii, how much lighter (+) or darker (-)).
LAYERS = ((1.0, 0.0, -0.22), (0.84, 0.14, 0.0), (0.5, 0.36, 0.14), (0.24, 0.5, 0.26))
LIGHT = np.array((-0.5, -0.866))  # on the picture: from the upper left
# Metres by which the trunk counts as farther away: in doubt a limb is over it, and does not flicker. Thighs begin
# inside the pelvis, so there is doubt whichever way a body stands.
BEHIND, PELVIS_BEHIND = 0.04, 0.12
BACK = 1.07  # times as far as `camera` says, which has room for the joints but not for a skull above a raised head
CELL = 0.5  # metres between the lines of the floor
FADE = 1.8  # metres over which the floor fades beyond the ground that a motion covers

_ANGLES = np.linspace(0, 2 * math.pi, EDGE, endpoint=False)
_AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)  # (EDGE, 2) unit vectors


@dataclass(frozen=True)
class Stage:
    """A floor and a camera; draws poses in pictures of one size."""

    skeleton: Skeleton
    view: Mapping[str, Any]  # as `camera` returns it
    size: tuple[int, int]  # pixels, of the finished picture
    leg: float  # metres

    @classmethod
    def around(cls, joints: np.ndarray, size: tuple[int, int]) -> Stage:
        """A stage whose camera has all of a motion (T, J, 3), metres, in view."""
        skeleton = skeleton_of(joints.shape[1])
        knee, ankle = skeleton.leg
        bones = joints[:, [knee, ankle]] - joints[:, [skeleton.parents[knee], knee]]
        leg = float(np.median(np.linalg.norm(bones, axis=-1).sum(axis=1)))
        view = camera([joints], size[0] / size[1])
        return cls(skeleton, {**view, "distance": BACK * view["distance"]}, size, leg)

    def floor(self, shift: np.ndarray | tuple[float, float] = (0.0, 0.0)) -> Image.Image:
        """The empty stage, not yet reduced. shift: metres in x and z that the camera goes along."""
        image = Image.new("RGB", (SMOOTH * self.size[0], SMOOTH * self.size[1]), SKY)
        draw = ImageDraw.Draw(image)
        centre = np.array((self.view["target"][0], 0.0, self.view["target"][2]))
        ground = 0.6 * self.view["ground"]
        ring = np.stack([_AROUND[:, 0], np.zeros(EDGE), _AROUND[:, 1]], axis=1)
        steps = 16
        for step in range(steps + 1):  # from far to near, so the floor comes out of the sky
            spread = centre + (ground + FADE * (1 - step / steps)) * ring
            draw.polygon(_flat(self._seen(spread)[0]), fill=mixed(SKY, FLOOR, step / steps))
        reach = ground + FADE
        for axis in (0, 2):
            other = 2 - axis
            offset = shift[0 if axis == 0 else 1]
            first = math.ceil((centre[axis] + offset - reach) / CELL)
            for line in range(first, math.floor((centre[axis] + offset + reach) / CELL) + 1):
                at = line * CELL - offset
                half = math.sqrt(max(reach**2 - (at - centre[axis]) ** 2, 0))
                points = np.zeros((25, 3))
                points[:, axis] = at
                points[:, other] = centre[other] + half * np.linspace(-1, 1, len(points))
                far = np.linalg.norm(points - centre, axis=1)
                seen = self._seen(points)[0]
                for a, b, distance in zip(seen[:-1], seen[1:], (far[:-1] + far[1:]) / 2, strict=True):
                    strength = min(max((reach - distance) / FADE, 0.0), 1.0)
                    draw.line(_flat((a, b)), fill=mixed(mixed(SKY, FLOOR, strength), GRID, strength), width=SMOOTH)
        return image

    def draw(self, image: Image.Image, pose: np.ndarray) -> None:
        """Draws a pose (J, 3), metres, and its shadow on a picture that `floor` made."""
        parts = [self._balls(part, pose) for part in self._body["parts"]]
        shadow = Image.new("L", image.size, 0)
        pen = ImageDraw.Draw(shadow)
        for centres, radii in parts:
            flat = hull(centres[:, [0, 2]], radii)
            ground = np.stack([flat[:, 0], np.zeros(EDGE), flat[:, 1]], axis=1)
            pen.polygon(_flat(self._seen(ground)[0]), fill=SHADOW_STRENGTH)
        if box := shadow.getbbox():
            image.paste(SHADOW, box, shadow.crop(box))
        draw = ImageDraw.Draw(image)
        seen = []
        for part, (centres, radii) in zip(self._body["parts"], parts, strict=True):
            points, scale = self._seen(centres)
            nearness = centres.mean(axis=0) @ self._axes[2] - _set_back(part)
            seen.append((nearness, part["tone"], points, radii * scale))
        for _, tone, points, radii in sorted(seen, key=lambda entry: entry[0]):  # the nearest last
            draw.polygon(_flat(hull(points, radii + SMOOTH)), fill=mixed(TONES[tone], SHADOW, 0.5))
            for size, shift, light in LAYERS:
                outline = hull(points + shift * radii[:, None] * LIGHT, size * radii)
                draw.polygon(_flat(outline), fill=mixed(TONES[tone], WHITE if light > 0 else SHADOW, abs(light)))

    def footprint(self, image: Image.Image, toe: np.ndarray, ankle: np.ndarray, colour: Colour) -> None:
        """Draws a footprint on the floor, under the bone from an ankle to a toe (3,)."""
        size = self.leg / LEG
        ahead = np.array((toe - ankle)[[0, 2]])
        ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
        centres = np.stack([ankle[[0, 2]] - 0.05 * size * ahead, toe[[0, 2]] + 0.05 * size * ahead])
        flat = hull(centres, size * np.array((0.05, 0.06)))
        seen = self._seen(np.stack([flat[:, 0], np.zeros(EDGE), flat[:, 1]], axis=1))[0]
        ImageDraw.Draw(image).polygon(_flat(seen), fill=colour)

    def path(self, image: Image.Image, root: np.ndarray, colour: Colour) -> None:
        """Draws the way (T, 3) of the root on the floor."""
        if len(root) > 1:
            points = self._seen(root * (1, 0, 1))[0]
            ImageDraw.Draw(image).line(_flat(points), fill=colour, width=SMOOTH, joint="curve")

    def finished(self, image: Image.Image) -> Image.Image:
        """The picture at its size, smoothed."""
        return image.reduce(SMOOTH)

    @cached_property
    def _body(self) -> dict[str, Any]:
        return body(self.skeleton)

    def _balls(self, part: Mapping[str, Any], pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres (B, 3) and radii (B,) of a part's balls, metres."""
        left, right = self._body["hips"]
        across = pose[left] - pose[right]
        ahead = np.array((-across[2], 0.0, across[0]))
        ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6) * (self.leg / LEG)
        balls = part["balls"]
        centres = [sum(weight * pose[joint] for joint, weight in ball["of"]) + ball["ahead"] * ahead for ball in balls]
        return np.array(centres), np.array([ball["radius"] for ball in balls]) * (self.leg / LEG)

    @cached_property
    def _axes(self) -> np.ndarray:
        """The camera's axes (3, 3), rows: right, up, towards the eye."""
        yaw, pitch = self.view["yaw"], self.view["pitch"]
        sin, cos, rise, level = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
        return np.array(((cos, 0, -sin), (-sin * rise, level, -cos * rise), (sin * level, rise, cos * level)))

    def _seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points (N, 3) are on the picture as drawn (N, 2), and how many pixels a metre is there (N,)."""
        width, height = SMOOTH * self.size[0], SMOOTH * self.size[1]
        local = (points - self.view["target"]) @ self._axes.T
        depth = np.maximum(self.view["distance"] - local[:, 2], 0.1)
        scale = height / 2 / math.tan(FIELD_OF_VIEW / 2) / depth
        return np.stack([width / 2 + scale * local[:, 0], height / 2 - scale * local[:, 1]], axis=1), scale


def hull(centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The outline (EDGE, 2) of the convex hull of discs, (B, 2) and (B,): in each direction its outermost point."""
    outermost = (_AROUND @ centres.T + radii).argmax(axis=1)
    return centres[outermost] + radii[outermost, None] * _AROUND


def _set_back(part: Mapping[str, Any]) -> float:
    if part["tone"] != "body":
        return 0.0
    return PELVIS_BEHIND if any(ball["of"] == [[0, 1.0]] for ball in part["balls"]) else BEHIND


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """A colour with that share of another."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _flat(points: Any) -> list[tuple[float, float]]:
    return [tuple(point) for point in np.asarray(points).tolist()]
