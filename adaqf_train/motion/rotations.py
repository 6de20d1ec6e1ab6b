"""Quaternions (w, x, y, z) and the 6-d rotation representation, batched over every leading dimension."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def multiply(q: Tensor, r: Tensor) -> Tensor:
    """Hamilton product q·r: first the rotation r, then q. (..., 4), (..., 4) -> (..., 4)."""
    qw, qv = q[..., :1], q[..., 1:]
    rw, rv = r[..., :1], r[..., 1:]
    w = qw * rw - (qv * rv).sum(-1, keepdim=True)
    return torch.cat([w, qw * rv + rw * qv + torch.linalg.cross(qv, rv)], dim=-1)


def inverse(q: Tensor) -> Tensor:
    """Inverse of unit quaternions. (..., 4) -> (..., 4)."""
    return torch.cat([q[..., :1], -q[..., 1:]], dim=-1)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """Vectors v rotated by unit quaternions q, broadcast against each other. (..., 4), (..., 3) -> (..., 3)."""
    shape = torch.broadcast_shapes(q.shape[:-1], v.shape[:-1])
    w, xyz, v = q[..., :1].expand(*shape, 1), q[..., 1:].expand(*shape, 3), v.expand(*shape, 3)
    uv = torch.linalg.cross(xyz, v)
    return v + 2 * (w * uv + torch.linalg.cross(xyz, uv))


def between(u: Tensor, v: Tensor) -> Tensor:
    """Shortest rotation from unit vectors u to unit vectors v. (..., 3), (..., 3) -> (..., 4), w >= 0.

    For opposite vectors, where upstream divides 0 by 0, it is a half turn about an axis perpendicular to u.
    """
    u, v = torch.broadcast_tensors(u, v)
    w = 1 + (u * v).sum(-1, keepdim=True)
    q = torch.cat([w, torch.linalg.cross(u, v)], dim=-1)
    # The cross product with the axis least aligned with u is a well-conditioned perpendicular.
    least = torch.nn.functional.one_hot(u.abs().argmin(-1), 3).to(u)
    half_turn = torch.cat([torch.zeros_like(w), torch.linalg.cross(u, least)], dim=-1)
    q = torch.where(q.norm(dim=-1, keepdim=True) < 1e-6, half_turn, q)
    return torch.nn.functional.normalize(q, dim=-1)


def about_y(angle: Tensor) -> Tensor:
    """Rotation about +Y, given the *half* angle in radians, as HumanML3D stores it. (...) -> (..., 4)."""
    zero = torch.zeros_like(angle)
    return torch.stack([angle.cos(), zero, angle.sin(), zero], dim=-1)


def to_cont6d(q: Tensor) -> Tensor:
    """First two columns of the rotation matrix (Zhou et al. 2019). (..., 4) -> (..., 6)."""
    x_axis, y_axis = torch.eye(3, dtype=q.dtype, device=q.device)[:2]
    return torch.cat([rotate(q, x_axis), rotate(q, y_axis)], dim=-1)


def identity(shape: Sequence[int], like: Tensor) -> Tensor:
    """Identity quaternions (*shape, 4) with the dtype and device of `like`."""
    q = like.new_zeros(*shape, 4)
    q[..., 0] = 1
    return q


def from_euler(angles: Tensor, axes: str) -> Tensor:
    """Quaternions of intrinsic Euler angles in radians: "ZXY" is R_Z·R_X·R_Y, as in BVH. (..., n) -> (..., 4)."""
    half = angles / 2
    q = identity(angles.shape[:-1], angles)
    for turn, axis in enumerate(axes):
        about = torch.zeros_like(q)
        about[..., 0] = half[..., turn].cos()
        about[..., 1 + "XYZ".index(axis)] = half[..., turn].sin()
        q = multiply(q, about)
    return q


def from_axis_angle(vectors: Tensor) -> Tensor:
    """Quaternions of axis-angle vectors, in radians, as SMPL stores them. (..., 3) -> (..., 4)."""
    half = vectors.norm(dim=-1, keepdim=True) / 2
    # sinc is sin(pi x) / (pi x): finite where the angle is zero.
    return torch.cat([half.cos(), vectors / 2 * torch.sinc(half / torch.pi)], dim=-1)


def aligned(q: Tensor) -> Tensor:
    """The same rotations (T, ..., 4) with signs chosen so that neighbours in time lie in one hemisphere.

    q and -q are the same rotation, but interpolating between them gives none.
    """
    flips = torch.where((q[1:] * q[:-1]).sum(-1, keepdim=True) < 0, -1.0, 1.0).to(q)
    return torch.cat([q[:1], q[1:] * flips.cumprod(dim=0)])
