"""Joint rotations from joint positions, for file formats that store rotations.

Positions determine the direction of a bone, but not its rotation about itself. Let o_c be the T-pose offset of child c
from joint j, and v_c(t) the bone in frame t. The global rotation R_j(t), the identity in the T-pose, is

- at joints with several children (pelvis, upper chest) the best fit, argmin_R sum_c |R o_c - v_c(t)|^2: the
  eigenvector of the largest eigenvalue of Horn's 4 x 4 matrix (Horn 1987). The shape of the offsets is the clip's own:
  fit and average are iterated, and the average is rotated back onto the T-pose. At the upper chest, the line from the
  right shoulder to the left is a further vector. Its weight grows with the noise: it decides where neck and collars lie
  near one line, about which they leave the rotation open, and hardly counts where they spread;
- at joints with one child the shortest arc from the direction of the bone under the parent's rotation to its actual
  direction (the swing), which adds no rotation about the bone;
- above an elbow or a knee, the swing followed by a rotation phi about the bone u that brings the hinge's axis h towards
  the normal of the bend, n = |u x l| u x l with l the bone below: phi = atan2(n·(u x h), STRAIGHT^2 + max(n·h, 0)). It
  fades to zero as the limb straightens and n becomes noise, is continuous, and stays within 90 degrees;
- along the spine, between the pelvis and the upper chest, the swing followed by an even share of the rotation that
  remains between the swings and the chest's own rotation;
- at the ends (head, wrists, toes) the parent's rotation, because positions say nothing about them.

By default bones are rigid: they have their median lengths, and the joints of every frame are moved to the nearest
positions that such bones allow (see `rigid`), and the spine is calmed, before the rotations above are computed, which
then give exactly these positions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from adaqf_train.files.rigid import Guide, fit_rigid
from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.skeleton import Skeleton

Bones = Literal["rigid", "stretch"]
STRAIGHT = 0.2  # sine of the bend of an elbow or knee beyond which the bend determines the limb's own rotation
ROUNDS = 4  # of fitting rotations and averaging shapes; after three, shapes change by less than 0.1 mm
FRAMES = 2000  # of a clip, evenly spread, are enough to average a shape
GIRDLE = 0.025  # radians, how far the shoulder line usually turns against the chest; sets its weight against the noise
LEAST_NOISE = 1e-5  # metres
CALM = 0.03  # radians that a bone of the spine usually turns from frame to frame; noise beyond that is averaged
COARSE = 0.01  # metres of noise, beyond which joints are so far off that their bones stay as they are
AVERAGE = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # weights of the frames around one
SHORTEST = 1e-6  # metres; a shorter bone has no direction

# Unit directions of the bone that ends in a joint, for a body that stands upright, faces +Z and stretches its arms out
# to the sides; for the left side, which has positive x. Hips, collars and shoulders are those of an average body:
# bones that branch off one joint are later fitted to the clip.
_DIRECTIONS: dict[str, tuple[float, float, float]] = {
    "hip": (0.6, -0.8, 0.0),
    "knee": (0.0, -1.0, 0.0),
    "ankle": (0.0, -1.0, 0.0),
    "midfoot": (0.0, -0.6, 0.8),
    "foot": (0.0, -0.42, 0.9075),
    "toe": (0.0, 0.0, 1.0),
    "collar": (0.6, 0.8, 0.0),
    "shoulder": (0.96, 0.28, 0.0),
    "elbow": (1.0, 0.0, 0.0),
    "wrist": (1.0, 0.0, 0.0),
    "head": (0.0, 0.9, 0.4359),
}
_SPINE = (0.0, 1.0, 0.0)
# The direction in which the bone beyond a hinge moves when a straight limb bends: forearms forward, shanks backward.
_BENDS: dict[str, tuple[float, float, float]] = {"elbow": (0.0, 0.0, 1.0), "knee": (0.0, 0.0, -1.0)}


@dataclass(frozen=True)
class Animation:
    """A skeleton in its T-pose and the local transforms that animate it."""

    skeleton: Skeleton
    offsets: Tensor  # (J, 3) float64, metres: each joint from its parent in the T-pose; zero for the root
    translations: Tensor  # (T, J, 3): the root's path, and the offsets unless the bones stretch
    turns: Tensor  # (T, J, 4): rotations relative to the parent, with signs that are continuous in time
    stretches: bool  # whether bones change their length
    error: float  # metres, the largest distance of any joint in any frame from its given position

    def positions(self) -> np.ndarray:
        """Global joint positions (T, J, 3) by forward kinematics, float64."""
        return kinematics.forward(self.translations, self.turns, self.skeleton.parents)[0].numpy()


def rest_directions(skeleton: Skeleton) -> Tensor:
    """Unit directions (J, 3), float64, of the bones that end in each joint of the T-pose; zero for the root."""
    rows = [(0.0, 0.0, 0.0)]
    for name in skeleton.joints[1:]:
        side, _, part = name.rpartition("_")
        x, y, z = _DIRECTIONS.get(part, _SPINE)
        rows.append((-x if side == "right" else x, y, z))
    return normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)


def hinges(skeleton: Skeleton) -> dict[int, Tensor]:
    """Axes (3,) that elbows and knees turn about in the T-pose, by the joint above (shoulder, hip)."""
    rest, axes = rest_directions(skeleton), {}
    for joint, name in enumerate(skeleton.joints):
        bend = _BENDS.get(name.rpartition("_")[2])
        if bend is not None:
            axes[skeleton.parents[joint]] = torch.linalg.cross(rest[joint], rest.new_tensor(bend))
    return axes


def solve_rotations(
    joints: np.ndarray, skeleton: Skeleton, bones: Bones = "rigid", rest: Tensor | None = None
) -> Animation:
    """Find the joint rotations of a motion (T, J, 3), metres, Y up.

    bones: "rigid" gives every bone its median length over the clip. The bones of generated motions vary in length, so
    their joints get an error, but none that adds up along a limb. "stretch" moves every joint to its exact position.
    rest: offsets (J, 3) whose directions replace those of the T-pose.
    """
    target = torch.as_tensor(np.asarray(joints, dtype=np.float64))
    bone = _bones(target, skeleton)
    lengths = bone.norm(dim=-1)
    typical = lengths.median(dim=0).values[:, None]
    # A bone's length changes by the difference of two joints' errors along it; the median ignores single bad frames.
    noise = float((lengths - typical[:, 0])[:, 1:].abs().median()) * 1.4826 / 2**0.5
    directions = rest_directions(skeleton) if rest is None else normalize(rest.double(), dim=-1)
    guide = _guide(target, directions * typical, skeleton, max(noise, LEAST_NOISE))
    offsets = _shapes(bone, directions * typical, skeleton, guide)
    placed, branches = target, _branch_turns(bone, offsets, skeleton, guide)
    if bones == "rigid":
        placed, branches = fit_rigid(target, branches, offsets, skeleton, guide)
        placed = _with_calm_spine(placed, guide[0], noise, skeleton)
        bone = _bones(placed, skeleton)
    orientations = _orientations(bone, offsets, skeleton, branches)
    above = orientations[:, list(skeleton.parents[1:])]
    turns = torch.cat([orientations[:, :1], rotations.multiply(rotations.inverse(above), orientations[:, 1:])], dim=1)
    translations = offsets.expand_as(target).clone()
    translations[:, 0] = placed[:, 0]
    if bones == "stretch":
        translations[:, 1:] = rotations.rotate(rotations.inverse(above), bone[:, 1:])
    error = float((placed - target).norm(dim=-1).max())
    return Animation(skeleton, offsets, translations, rotations.aligned(turns), bones == "stretch", error)


def at_rate(animation: Animation, source_fps: float, fps: float) -> Animation:
    """The animation at another frame rate, by cubics of rotations and of the root's path: bones keep their lengths."""
    translations, turns = kinematics.resample(animation.translations, animation.turns, source_fps, fps)
    return replace(animation, translations=translations, turns=turns)


def _bones(places: Tensor, skeleton: Skeleton) -> Tensor:
    """The vectors (T, J, 3) from each joint's parent to it; zero for the root."""
    return torch.cat([torch.zeros_like(places[:, :1]), places[:, 1:] - places[:, list(skeleton.parents[1:])]], dim=1)


def _with_calm_spine(placed: Tensor, chest: int, noise: float, skeleton: Skeleton) -> Tensor:
    """Joints (T, J, 3) whose spine below the chest bends smoothly, as far as noise turns its short bones.

    A nearly straight chain of short bones buckles when noise moves its ends by millimetres. The directions of its bones
    are averaged over five frames. The two ends of the chain, with the legs and the upper body, share what that moves.
    """
    spine = [joint for joint in _path(chest, skeleton)[-2::-1] if len(skeleton.children[skeleton.parents[joint]]) == 1]
    kernel = placed.new_tensor(AVERAGE)
    reach = len(kernel) // 2
    bone, moved, end = _bones(placed, skeleton), placed.clone(), torch.zeros_like(placed[:, 0])
    for joint in spine:  # the first bone turns with the pelvis and the hips
        length = bone[:, joint].norm(dim=-1, keepdim=True)
        usual = max(CALM * float(length.mean()), LEAST_NOISE)
        share = noise**2 / (noise**2 + usual**2) / (1 + (noise / COARSE) ** 4)
        direction = normalize(bone[:, joint], dim=-1)
        around = torch.cat([direction[:1].expand(reach, 3), direction, direction[-1:].expand(reach, 3)])
        mean = (around.unfold(0, len(kernel), 1) * kernel).sum(-1)
        calm = normalize(direction + share * (mean - direction), dim=-1) * length
        end = end + calm - bone[:, joint]
        moved[:, joint] = placed[:, joint] + end
    above = [joint for joint in range(len(skeleton)) if chest in _path(joint, skeleton)[1:]]
    moved[:, above] = placed[:, above] + end[:, None]
    return moved - end[:, None] / 2


def _guide(target: Tensor, offsets: Tensor, skeleton: Skeleton, noise: float) -> Guide:
    """The chest, and the line between its shoulders at rest and in each frame; its length is its weight in metres."""
    rest = kinematics.forward(offsets[None], rotations.identity((1, len(offsets)), offsets), skeleton.parents)[0]
    chest = max(set(_path(skeleton.left_shoulder, skeleton)) & set(_path(skeleton.right_shoulder, skeleton)))
    weight = noise / GIRDLE
    return chest, weight * _shoulder_line(rest, chest, skeleton)[0], weight * _shoulder_line(target, chest, skeleton)


def _shoulder_line(places: Tensor, chest: int, skeleton: Skeleton) -> Tensor:
    """The direction (T, 3) from the right shoulder to the left, of which only the part across the chest counts.

    Where the shoulders lie along the chest, the line between the hips replaces theirs.
    """
    along = normalize((places[:, skeleton.children[chest]] - places[:, [chest]]).sum(dim=1), dim=-1)

    def across(left: int, right: int) -> Tensor:
        line = normalize(places[:, left] - places[:, right], dim=-1)
        return line - (line * along).sum(-1, keepdim=True) * along

    shoulders = across(skeleton.left_shoulder, skeleton.right_shoulder)
    return shoulders + 0.01 * across(skeleton.left_hip, skeleton.right_hip)


def _path(joint: int, skeleton: Skeleton) -> list[int]:
    """A joint and all joints above it."""
    return [joint, *_path(skeleton.parents[joint], skeleton)] if joint >= 0 else []


def _shapes(bone: Tensor, offsets: Tensor, skeleton: Skeleton, guide: Guide) -> Tensor:
    """Offsets (J, 3) whose branches have the clip's shape, which is rotated onto the offsets of the T-pose."""
    some = slice(None, None, -(-len(bone) // FRAMES))
    guide = guide[0], guide[1], guide[2][some]
    bone, offsets = bone[some], offsets.clone()
    for joint, below in enumerate(skeleton.children):
        if len(below) < 2:
            continue
        rest, wanted = _branch(joint, bone, offsets, skeleton, guide)
        size, shape = rest.norm(dim=-1, keepdim=True), rest
        for _ in range(ROUNDS):
            turn = _fit(shape, wanted)
            mean = rotations.rotate(rotations.inverse(turn)[:, None], wanted).mean(dim=0)
            # The average may rotate as a whole from round to round; its shape does not change by that.
            shape = rotations.rotate(_fit(mean, rest), mean)
            shape = torch.where(shape.norm(dim=-1, keepdim=True) > SHORTEST, normalize(shape, dim=-1) * size, rest)
            shape = torch.cat([shape[: len(below)], rest[len(below) :]])
        offsets[below] = shape[: len(below)]
    return offsets


def _branch(joint: int, bone: Tensor, offsets: Tensor, skeleton: Skeleton, guide: Guide) -> tuple[Tensor, Tensor]:
    """Vectors (C, 3) of a joint with several bones at rest, and where they point in each frame, (T, C, 3)."""
    below = skeleton.children[joint]
    rest, wanted = offsets[below], normalize(bone[:, below], dim=-1) * offsets[below].norm(dim=-1, keepdim=True)
    if joint == guide[0]:
        rest, wanted = torch.cat([rest, guide[1][None]]), torch.cat([wanted, guide[2][:, None]], dim=1)
    return rest, wanted


def _branch_turns(bone: Tensor, offsets: Tensor, skeleton: Skeleton, guide: Guide) -> dict[int, Tensor]:
    """Global rotations (T, 4) of the joints with several bones, by joint."""
    branches = [joint for joint, below in enumerate(skeleton.children) if len(below) > 1]
    return {joint: _fit(*_branch(joint, bone, offsets, skeleton, guide)) for joint in branches}


def _orientations(bone: Tensor, offsets: Tensor, skeleton: Skeleton, branches: dict[int, Tensor]) -> Tensor:
    """Find global rotations (T, J, 4) that turn offsets (J, 3) along bones (T, J, 3), given those of the branches."""
    axes, directions = hinges(skeleton), normalize(offsets, dim=-1)
    found: list[Tensor] = []
    for joint, below in enumerate(skeleton.children):
        above = found[skeleton.parents[joint]] if joint else rotations.identity(bone.shape[:1], bone)
        if joint in branches:
            turn = branches[joint]
            _share_turn(found, turn, joint, skeleton, directions)
        elif below:
            (child,) = below
            carried = rotations.rotate(above, directions[child])
            along = _pointing(bone[:, child], carried)
            turn = rotations.multiply(rotations.between(carried, along), above)
            if joint in axes:
                beyond = _pointing(bone[:, skeleton.children[child][0]], along)
                turn = _facing_the_bend(turn, along, beyond, axes[joint])
        else:
            turn = above
        found.append(turn)
    return torch.stack(found, dim=1)


def _fit(source: Tensor, target: Tensor) -> Tensor:
    """Rotations that fit vectors to others in the least-squares sense. (..., C, 3), (..., C, 3) -> (..., 4)."""
    s = (source[..., :, None] * target[..., None, :]).sum(dim=-3)  # (..., 3, 3): the sum of source times target
    trace = s.diagonal(dim1=-2, dim2=-1).sum(-1)
    twist = torch.stack([s[..., 1, 2] - s[..., 2, 1], s[..., 2, 0] - s[..., 0, 2], s[..., 0, 1] - s[..., 1, 0]], dim=-1)
    inner = s + s.transpose(-1, -2) - trace[..., None, None] * torch.eye(3, dtype=s.dtype)
    top = torch.cat([trace[..., None], twist], dim=-1)[..., None, :]
    horn = torch.cat([top, torch.cat([twist[..., None], inner], dim=-1)], dim=-2)
    return torch.linalg.eigh(horn).eigenvectors[..., -1]


def _share_turn(found: list[Tensor], turn: Tensor, branch: int, skeleton: Skeleton, directions: Tensor) -> None:
    """Rotate the joints with one child below the last branch about their bones, by growing shares of a turn (T, 4)."""
    stem, joint = [branch], skeleton.parents[branch]
    while joint >= 0 and len(skeleton.children[joint]) == 1:
        stem.insert(0, joint)
        joint = skeleton.parents[joint]
    if len(stem) == 1:
        return
    left = rotations.multiply(rotations.inverse(found[stem[-2]]), turn)
    angle = 2 * torch.atan2((left[..., 1:] * directions[branch]).sum(-1), left[..., 0])
    angle = torch.from_numpy(np.unwrap(torch.remainder(angle + torch.pi, 2 * torch.pi).numpy() - np.pi))
    for place, (joint, child) in enumerate(itertools.pairwise(stem), start=1):
        along = rotations.rotate(found[joint], directions[child])
        share = (angle * place / len(stem))[:, None]
        found[joint] = rotations.multiply(rotations.from_axis_angle(along * share), found[joint])


def _facing_the_bend(turn: Tensor, along: Tensor, beyond: Tensor, hinge: Tensor) -> Tensor:
    """Rotate (T, 4) about the bones `along` so that the hinge's axis (3,) points towards the axis of the bend."""
    axis = rotations.rotate(turn, hinge)
    normal = torch.linalg.cross(along, beyond)
    normal = normal * normal.norm(dim=-1, keepdim=True)
    across = (normal * torch.linalg.cross(along, axis)).sum(-1, keepdim=True)
    angle = torch.atan2(across, STRAIGHT**2 + (normal * axis).sum(-1, keepdim=True).clamp(min=0))
    return rotations.multiply(rotations.from_axis_angle(along * angle), turn)


def _pointing(bone: Tensor, otherwise: Tensor) -> Tensor:
    """Unit directions of bones (T, 3), or `otherwise` where a bone has no length."""
    return torch.where(bone.norm(dim=-1, keepdim=True) > SHORTEST, normalize(bone, dim=-1), otherwise)
