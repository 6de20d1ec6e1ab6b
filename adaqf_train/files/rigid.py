"""Fit a skeleton of rigid bones to joint positions by least squares, over the whole tree of joints.

Gauss-Newton steps minimise the sum of the squared distances of all joints from their given positions, so that errors do
not add up from the pelvis to the hands and feet. A step is one sweep up the tree and one down. Seen from a joint,
everything below it is a quadratic in the joint's displacement d, d'Ad/2 - g'd. A bone that ends in one joint is a rod
that turns freely: it adds only along its direction n, nn'/(n'C n) with C the inverse of the A below. A joint with
several bones turns them together, and the rotation is eliminated. Two more steps weigh joints by their error, which
lowers the largest error of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adaqf_train.motion import rotations
from adaqf_train.motion.skeleton import Skeleton

PLAIN, WEIGHED = 1, 2  # steps; more of them change the largest error by less than a tenth of the noise
FOOT = 3.0  # weight of ankles and toes, 1 for all other joints: sliding and sinking feet are the most visible errors
LEAST = 0.5  # smallest error of a joint, relative to the mean error of its frame, that changes its weight
FURTHEST = 0.5  # radians; the longest rotation in one step
DAMPING = 1e-9  # square metres; a branch whose bones lie on one line does not rotate about it
CHUNK = 4096  # frames at a time, so that vectors stay in the processor's cache

# A joint with several bones, a vector (3,) fixed to it, and where it should point (T, 3).
Guide = tuple[int, Tensor, Tensor]


def fit_rigid(
    target: Tensor, turns: dict[int, Tensor], offsets: Tensor, skeleton: Skeleton, guide: Guide
) -> tuple[Tensor, dict[int, Tensor]]:
    """Find the positions of a skeleton of rigid bones that are closest to given ones.

    target: (T, J, 3). turns: global rotations (T, 4), to start from, of the joints with several bones. offsets: (J, 3),
    each joint from its parent. The squared difference of the guide's two vectors is added to the sum.

    Returns the positions (T, J, 3), and the rotations (T, 4) of the joints with several bones.
    """
    joint, fixed, wanted = guide
    places, found = [], []
    for first in range(0, len(target), CHUNK):
        some = slice(first, first + CHUNK)
        start = {branch: turn[some] for branch, turn in turns.items()}
        fit = _Fit(target[some], start, offsets, skeleton, (joint, fixed, wanted[some]))
        places.append(fit.solve())
        found.append(fit.turns)
    return torch.cat(places), {branch: torch.cat([part[branch] for part in found]) for branch in turns}


@dataclass(frozen=True)
class _Rod:
    """A = weight I + n n' / compliance: a joint above one rod; without a rod, n is zero. Vectors are (3, T)."""

    weight: Tensor  # (T,)
    n: Tensor  # (3, T)
    compliance: Tensor  # (T,)

    def inverse_times(self, v: Tensor) -> Tensor:
        return (v - self.n * (_dot(self.n, v) / (self.weight * self.compliance + 1))) / self.weight

    def matrix(self) -> Tensor:
        eye = torch.eye(3, dtype=self.n.dtype)
        return self.weight[:, None, None] * eye + _outer(self.n.T, (self.n / self.compliance).T)


@dataclass(frozen=True)
class _Block:
    """Any A (T, 3, 3), with its inverse."""

    a: Tensor
    inverse: Tensor

    def inverse_times(self, v: Tensor) -> Tensor:
        return _times(self.inverse, v.T).T

    def matrix(self) -> Tensor:
        return self.a


class _Fit:
    """The fit of some frames: the root, the bones and the turns of branches move from step to step.

    Vectors are (3, T), which is fast, except where matrices (T, 3, 3) multiply them.
    """

    def __init__(
        self, target: Tensor, turns: dict[int, Tensor], offsets: Tensor, skeleton: Skeleton, guide: Guide
    ) -> None:
        self.target = list(target.permute(1, 2, 0).contiguous())
        self.turns, self.offsets, self.skeleton, self.guide = turns, offsets, skeleton, guide
        self.root, self.lengths = self.target[0], offsets.norm(dim=-1)
        self.bones: list[Tensor] = [torch.zeros_like(self.root)]
        for joint, parent in enumerate(skeleton.parents[1:], start=1):
            if parent in turns:
                bone = rotations.rotate(turns[parent], offsets[joint]).T.contiguous()
            else:
                bone = _unit(self.target[joint] - self.target[parent]) * self.lengths[joint]
            self.bones.append(bone)

    def solve(self) -> Tensor:
        """Positions (T, J, 3) after all steps."""
        weights = torch.ones_like(self.root[:1]).repeat(len(self.skeleton), 1)
        weights[list(self.skeleton.feet)] = FOOT
        for step in range(PLAIN + WEIGHED):
            away = [wanted - place for wanted, place in zip(self.target, self.places(), strict=True)]
            if step >= PLAIN:
                error = torch.stack([_dot(vector, vector) for vector in away]).sqrt()
                weights = weights * (error / error.mean(dim=0).clamp(min=1e-12)).clamp(min=LEAST)
            self.step(away, weights)
        return torch.stack(self.places()).permute(2, 0, 1)

    def places(self) -> list[Tensor]:
        """The position (3, T) of each joint."""
        places = [self.root]
        for joint, parent in enumerate(self.skeleton.parents[1:], start=1):
            places.append(places[parent] + self.bones[joint])
        return places

    def step(self, away: list[Tensor], weights: Tensor) -> None:
        """One Gauss-Newton step. away: (3, T) from each joint to its target; weights: (J, T)."""
        below: dict[int, tuple[_Rod | _Block, Tensor]] = {}  # A and g of each joint
        turning: dict[int, tuple[Tensor, Tensor]] = {}  # a branch rotates by the first minus the second times d
        pushed: dict[int, tuple[Tensor, ...]] = {}  # of a rod: n, C n, C g and n'C n, C and g of the joint at its end
        for joint in reversed(range(len(self.skeleton))):
            children, weight = self.skeleton.children[joint], weights[joint]
            pull = weight * away[joint]
            if len(children) > 1:
                below[joint], turning[joint] = self._branch(joint, weight, pull, below)
            elif children:
                a, g = below[children[0]]
                n = self.bones[children[0]] / self.lengths[children[0]].clamp(min=1e-9)
                along, free = a.inverse_times(n), a.inverse_times(g)
                compliance = _dot(n, along).clamp(min=1e-12)
                pushed[joint] = n, along, free, compliance
                below[joint] = _Rod(weight, n, compliance), pull + n * (_dot(n, free) / compliance)
            else:
                below[joint] = _Rod(weight, torch.zeros_like(pull), torch.ones_like(weight)), pull
        a, g = below[0]
        self._move(a.inverse_times(g), pushed, turning)

    def _branch(self, joint: int, weight: Tensor, pull: Tensor, below: dict):
        """A and g of a joint with several bones, and how it turns with its displacement."""
        eye = torch.eye(3, dtype=pull.dtype)
        pull, a, own = pull.T, weight[:, None, None] * eye, DAMPING * eye
        mixed, torque = torch.zeros_like(a), torch.zeros_like(pull)
        for child in self.skeleton.children[joint]:
            (part, g), bone = below[child], self.bones[child].T
            matrix, cross = part.matrix(), _cross_matrix(bone)
            moved = matrix @ cross
            a, pull, mixed, own = a + matrix, pull + g.T, mixed - moved, own - cross @ moved
            torque = torque + torch.linalg.cross(bone, g.T)
        if joint == self.guide[0]:
            pointing = rotations.rotate(self.turns[joint], self.guide[1])
            cross = _cross_matrix(pointing)
            own, torque = own - cross @ cross, torque + torch.linalg.cross(pointing, self.guide[2])
        inverse = _inverse(own)
        slope, constant = inverse @ mixed.mT, _times(inverse, torque)
        a, pull = a - mixed @ slope, pull - _times(mixed, constant)
        return (_Block(a, _inverse(a)), pull.T.contiguous()), (constant, slope)

    def _move(self, root: Tensor, pushed: dict, turning: dict) -> None:
        """Move the root by a displacement (3, T), and all bones with it."""
        shifts = {0: root}
        self.root = self.root + root
        for joint, children in enumerate(self.skeleton.children):
            if joint in turning:
                constant, slope = turning[joint]
                turn = constant - _times(slope, shifts[joint].T)
                turn = turn * (FURTHEST / turn.norm(dim=-1, keepdim=True).clamp(min=FURTHEST))
                turned = rotations.multiply(rotations.from_axis_angle(turn), self.turns[joint])
                self.turns[joint] = normalize(turned, dim=-1)
                for child in children:
                    shifts[child] = shifts[joint] + torch.linalg.cross(turn.T, self.bones[child], dim=0)
                    self.bones[child] = rotations.rotate(self.turns[joint], self.offsets[child]).T.contiguous()
            elif children:
                (child,), above = children, shifts[joint]
                n, along, free, compliance = pushed[joint]
                swing = free + along * (_dot(n, above - free) / compliance) - above  # across the bone
                most = FURTHEST * self.lengths[child]
                swing = swing * (most / _dot(swing, swing).sqrt().clamp(min=most)) if most > 0 else swing
                shifts[child] = above + swing
                self.bones[child] = _unit(self.bones[child] + swing) * self.lengths[child]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(0)


def _unit(vector: Tensor) -> Tensor:
    return vector / _dot(vector, vector).sqrt().clamp(min=1e-12)


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix * vector[..., None, :]).sum(-1)


def _cross_matrix(vector: Tensor) -> Tensor:
    """The matrices (..., 3, 3) that multiply like `vector` x."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _inverse(matrix: Tensor) -> Tensor:
    """Inverses of matrices (..., 3, 3), faster than torch's for many small ones."""
    a, b, c = matrix.unbind(-1)
    rows = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-2)
    return rows / (a * rows[..., 0, :]).sum(-1)[..., None, None]
