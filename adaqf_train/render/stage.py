"""One motion on a floor, drawn with matplotlib: body, shadow, footprints and path."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from adaqf_train.motion.skeleton import skeleton_of
from adaqf_train.render.camera import camera, camera_axes, project
from adaqf_train.render.flesh import body, hull, placed_balls, relative_size
from adaqf_train.render.payload import contacts

# The colours that page.css has by day.
SKY, FLOOR, GRID, INK, SOFT, SHADE = "#fbfaf6", "#e6e3db", "#8d8a82", "#23262b", "#5d636c", "#1c2430"
TONES = {"body": "#c3beb4", "left": "#2f7fb8", "right": "#e08a1e"}
BACKGROUND = LinearSegmentedColormap.from_list("background", ((0, SKY), (0.3, SKY), (1, FLOOR)))
# A part is drawn in layers: (radius, shift towards the light in radii, how much lighter (+) or darker (-)).
LAYERS = ((1.0, 0.0, -0.22), (0.84, 0.14, 0.0), (0.5, 0.36, 0.14), (0.24, 0.5, 0.26))
LIGHT = np.array((-0.5, 0.866))  # on the picture: from the upper left
RIM = 0.004  # width of a part's dark outline, in half heights of the picture
# Metres by which the trunk counts as farther away, so that a limb that touches it is drawn over it without flicker.
# Thighs begin inside the pelvis, which needs more.
BEHIND, PELVIS_BEHIND = 0.04, 0.12
BACK = 1.07  # factor on the camera's distance, which has room for the joints but not for a skull above a raised head
CELL = 0.5  # metres between the lines of the floor
FADE = 1.8  # metres over which the lines fade beyond the ground that a motion covers
STANDING, LEFT = 0.75, 0.3  # opacity of a footprint while the foot stands, and afterwards

_ANGLES = np.linspace(0, 2 * math.pi, 64, endpoint=False)
AROUND = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)  # (64, 2) unit vectors


class Stage:
    """One motion (T, J, 3), metres, on a floor in matplotlib axes; `show` draws one of its frames.

    ground: Metres in x and z by which the joints were moved to the origin; the lines of the floor move as well.
    """

    def __init__(self, axes: Axes, joints: np.ndarray, fps: float, ground: tuple[float, float] = (0.0, 0.0)) -> None:
        self.joints, self.axes = joints, axes
        skeleton = skeleton_of(joints.shape[1])
        self.body, self.size = body(skeleton), relative_size(joints, skeleton)
        self.contacts = contacts(joints, skeleton, fps)
        aspect = axes.bbox.width / axes.bbox.height
        view = camera([joints], aspect)
        self.view = {**view, "distance": BACK * view["distance"]}
        axes.set_axis_off()
        extent = (-aspect, aspect, -1, 1)
        axes.imshow(np.linspace(0, 1, 200)[:, None], BACKGROUND, extent=extent, aspect="auto")
        axes.set(xlim=extent[:2], ylim=extent[2:])
        self.shadow = axes.add_patch(PathPatch(Outline(np.zeros((1, 2))), facecolor=SHADE, alpha=0.19, linewidth=0))
        self._draw_grid(ground)
        self.path = self._on_floor(joints[:, 0, [0, 2]])
        axes.plot(*self.path.T, color=SOFT, alpha=0.25, linewidth=1.2)
        self.prints = axes.add_collection(PolyCollection([], linewidths=0))
        (self.trail,) = axes.plot([], [], color=SOFT, linewidth=1.8)
        self.parts = axes.add_collection(PolyCollection([], linewidths=0, zorder=3))
        self.moving = (self.shadow, self.prints, self.trail, self.parts)

    def show(self, frame: int) -> None:
        """Set the body, its shadow, footprints and path to those of a frame; the last frame holds."""
        frame = min(frame, len(self.joints) - 1)
        self.trail.set_data(*self.path[: frame + 1].T)
        outlines, colours = [], []
        for foot, first, last in self.contacts:
            if first <= frame:  # a foot that has left keeps the print of the middle of its contact
                ankle, toe, side = self.body["feet"][foot]
                pose = self.joints[frame if frame <= last else (first + last) // 2]
                outlines.append(self._outline_on_floor(pose[[ankle, toe]], self.size * np.array((0.045, 0.055))))
                colours.append((TONES[side], STANDING if frame <= last else LEFT))
        self.prints.set(verts=outlines, facecolor=colours or "none")
        self.show_pose(self.joints[frame])

    def show_pose(self, pose: np.ndarray) -> None:
        """Set the body and its shadow to a pose (J, 3), metres."""
        left, right = self.body["hips"]
        across = pose[left] - pose[right]
        forward = np.array((-across[2], 0.0, across[0])) / max(float(np.linalg.norm(across[[0, 2]])), 1e-6)
        eye = camera_axes(self.view["yaw"], self.view["pitch"])[2]
        shadows, parts = [], []
        for part in self.body["parts"]:
            centres, radii = placed_balls(part, pose, self.size, forward)
            shadows.append(Outline(self._outline_on_floor(centres, radii)))
            pelvis = any(ball["of"] == [[0, 1.0]] for ball in part["balls"])
            behind = (PELVIS_BEHIND if pelvis else BEHIND) if part["tone"] == "body" else 0.0
            parts.append((centres.mean(axis=0) @ eye - behind, part["tone"], centres, radii))
        outlines, colours = [], []
        for _, tone, centres, radii in sorted(parts, key=lambda part: part[0]):  # the nearest last
            points, scale = project(centres, self.view)
            radii = radii * scale
            outlines.append(hull(points, radii + RIM, AROUND)[0])
            colours.append(_mixed(TONES[tone], SHADE, 0.5))
            for size, shift, light in LAYERS:
                outlines.append(hull(points + shift * radii[:, None] * LIGHT, size * radii, AROUND)[0])
                colours.append(_mixed(TONES[tone], "white" if light > 0 else SHADE, abs(light)))
        self.shadow.set_path(Outline.make_compound_path(*shadows))
        self.parts.set(verts=outlines, facecolor=colours)

    def _draw_grid(self, ground: tuple[float, float]) -> None:
        """Draw the lines of the floor, which fade with the distance from the motion."""
        centre, reach = np.array(self.view["target"])[[0, 2]], 0.6 * self.view["ground"] + FADE
        steps = CELL * np.arange(-math.ceil(reach / CELL), math.ceil(reach / CELL) + 1)
        along, across = (axis.ravel() for axis in np.meshgrid(steps, steps))
        pieces = np.array(((across, along), (across, along + CELL))).transpose(2, 0, 1)  # (P, 2 ends, x and z)
        pieces = np.concatenate((pieces, pieces[..., ::-1])) + np.round((centre + ground) / CELL) * CELL - ground
        distance = np.linalg.norm(pieces.mean(axis=1) - centre, axis=1)
        colours = [(GRID, alpha) for alpha in 0.4 * np.clip((reach - distance) / FADE, 0, 1)]
        self.axes.add_collection(LineCollection(self._on_floor(pieces), linewidths=1, colors=colours))

    def _on_floor(self, points: np.ndarray) -> np.ndarray:
        """Places (..., 2) on the picture of points (..., 2), x and z, on the floor."""
        return project(np.insert(points, 1, 0, axis=-1), self.view)[0]

    def _outline_on_floor(self, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Outline (64, 2) on the picture of the floor below balls, (B, 3) and (B,)."""
        return self._on_floor(hull(centres[:, [0, 2]], radii, AROUND)[0])


def _mixed(colour: str, other: str, share: float) -> tuple[float, ...]:
    """A colour with that share of another."""
    return tuple((1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other)))
