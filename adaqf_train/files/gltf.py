"""glTF 2.0 binaries (.glb): an animated skeleton and a simple body skinned to it, in one file.

The format is JSON and arrays, so numpy is enough (registry.khronos.org/glTF/specs/2.0/glTF-2.0.html).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import adaclip
from adaclip.files import atomic_file
from adaqf_train.files.animation import Animation
from adaqf_train.files.mesh import Surface, surfaces
from adaqf_train.files.names import Names, joint_names
from adaqf_train.motion.skeleton import Skeleton

FLOAT, UNSIGNED_BYTE, UNSIGNED_SHORT = 5126, 5121, 5123  # component types
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963  # targets of a buffer view
TYPES = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}
COLOURS = {"body": (0.56, 0.53, 0.48), "left": (0.03, 0.21, 0.48), "right": (0.75, 0.25, 0.01)}  # linear RGB
MATT = {"metallicFactor": 0.0, "roughnessFactor": 0.7}


def write_glb(path: str | Path, animation: Animation, fps: float, names: Names = "standard") -> None:
    """Write an animation as a .glb file.

    Nodes have the names of the skeleton's joints, or of another program, and rest in a T-pose that faces +Z. One
    animation rotates every joint and moves the root; where bones stretch, it moves every joint.
    """
    skeleton = animation.skeleton
    pose = np.zeros((len(skeleton), 3))
    for joint in range(1, len(skeleton)):
        pose[joint] = pose[skeleton.parents[joint]] + animation.offsets[joint].numpy()
    pose[:, 1] -= pose[:, 1].min()  # the T-pose stands on the floor
    buffer = _Buffer()
    content = {
        "asset": {"version": "2.0", "generator": f"adaclip {adaclip.__version__}"},
        "scene": 0,
        "scenes": [{"nodes": [len(skeleton), 0]}],
        "nodes": [
            *_joint_nodes(animation, joint_names(skeleton, names), pose[0]),
            {"name": "body", "mesh": 0, "skin": 0},
        ],
        "meshes": [{"name": "body", "primitives": [_primitive(buffer, s) for s in surfaces(skeleton, pose)]}],
        "materials": [
            {"name": tone, "pbrMetallicRoughness": {"baseColorFactor": [*colour, 1.0], **MATT}}
            for tone, colour in COLOURS.items()
        ],
        "skins": [_skin(buffer, skeleton, pose)],
        "animations": [_tracks(buffer, animation, fps)],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.bytes)}],
    }
    with atomic_file(Path(path)) as staging:
        staging.write_bytes(_container(content, bytes(buffer.bytes)))


class _Buffer:
    """The binary part of the file, to which arrays are added one by one."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def add(self, array: np.ndarray, component: int = FLOAT, target: int | None = None, bounds: bool = False) -> int:
        """Append elements (N, ...) and return their accessor; `bounds` adds the smallest and largest element to it."""
        kinds = {FLOAT: "<f4", UNSIGNED_BYTE: "u1", UNSIGNED_SHORT: "<u2"}
        array = np.ascontiguousarray(array, dtype=kinds[component])
        self.bytes.extend(bytes(-len(self.bytes) % 4))  # accessors start at multiples of four
        view = {"buffer": 0, "byteOffset": len(self.bytes), "byteLength": array.nbytes}
        accessor = {"bufferView": len(self.views), "componentType": component, "count": len(array)}
        accessor["type"] = TYPES[array.shape[1:]]
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        self.bytes.extend(array.tobytes())
        self.views.append(view if target is None else {**view, "target": target})
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _joint_nodes(animation: Animation, names: Sequence[str], root: np.ndarray) -> list[dict]:
    nodes = []
    for joint, (name, children) in enumerate(zip(names, animation.skeleton.children, strict=True)):
        offset = animation.offsets[joint].numpy() if joint else root
        node = {"name": name, "translation": offset.tolist(), "rotation": [0.0, 0.0, 0.0, 1.0]}
        nodes.append({**node, "children": children} if children else node)
    return nodes


def _primitive(buffer: _Buffer, surface: Surface) -> dict:
    joints = np.pad(surface.joints[:, None], ((0, 0), (0, 3)))  # the format has room for four joints a vertex
    weights = np.tile((1.0, 0.0, 0.0, 0.0), (len(surface.points), 1))
    return {
        "attributes": {
            "POSITION": buffer.add(surface.points, target=ARRAY_BUFFER, bounds=True),
            "NORMAL": buffer.add(surface.normals, target=ARRAY_BUFFER),
            "JOINTS_0": buffer.add(joints, UNSIGNED_BYTE, ARRAY_BUFFER),
            "WEIGHTS_0": buffer.add(weights, target=ARRAY_BUFFER),
        },
        "indices": buffer.add(surface.triangles.reshape(-1), UNSIGNED_SHORT, ELEMENT_ARRAY_BUFFER),
        "material": list(COLOURS).index(surface.tone),
    }


def _skin(buffer: _Buffer, skeleton: Skeleton, pose: np.ndarray) -> dict:
    """Joints with the inverses of their rest transforms: the T-pose has no rotations, so these are translations."""
    inverses = np.tile(np.eye(4), (len(skeleton), 1, 1))
    inverses[:, 3, :3] = -pose  # columns follow each other in the file
    matrices = buffer.add(inverses.reshape(-1, 16))
    return {"joints": list(range(len(skeleton))), "skeleton": 0, "inverseBindMatrices": matrices}


def _tracks(buffer: _Buffer, animation: Animation, fps: float) -> dict:
    times = buffer.add(np.arange(len(animation.turns)) / fps, bounds=True)
    turns = animation.turns.numpy()[..., [1, 2, 3, 0]]  # glTF puts w last
    moved = range(len(animation.skeleton)) if animation.stretches else (0,)
    tracks = [("rotation", joint, turns[:, joint]) for joint in range(len(animation.skeleton))]
    tracks += [("translation", joint, animation.translations[:, joint].numpy()) for joint in moved]
    samplers = [{"input": times, "output": buffer.add(values), "interpolation": "LINEAR"} for _, _, values in tracks]
    targets = [{"node": joint, "path": what} for what, joint, _ in tracks]
    channels = [{"sampler": sampler, "target": target} for sampler, target in enumerate(targets)]
    return {"name": "motion", "samplers": samplers, "channels": channels}


def _container(content: dict, binary: bytes) -> bytes:
    """Join the header and two chunks, each padded to whole words: JSON with spaces, the binary part with zeros."""
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
