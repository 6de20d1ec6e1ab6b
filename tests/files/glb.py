"""An independent look at a .glb file: its parts, the rules of glTF 2.0 it could break, and where its joints are."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
KINDS = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}


@dataclass
class Glb:
    content: dict[str, Any]
    binary: bytes

    def array(self, accessor: int) -> np.ndarray:
        """The elements (N, width) of an accessor."""
        entry = self.content["accessors"][accessor]
        view = self.content["bufferViews"][entry["bufferView"]]
        start = view["byteOffset"] + entry.get("byteOffset", 0)
        width = WIDTHS[entry["type"]]
        flat = np.frombuffer(self.binary, KINDS[entry["componentType"]], entry["count"] * width, start)
        return flat.reshape(-1, width)

    def tracks(self) -> Iterator[tuple[int, str, np.ndarray, np.ndarray]]:
        """Node, what moves, times (T,) and values (T, 3 or 4) of every channel."""
        (animation,) = self.content["animations"]
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            target = channel["target"]
            yield target["node"], target["path"], self.array(sampler["input"])[:, 0], self.array(sampler["output"])

    def matrices(self, time: float | None) -> np.ndarray:
        """World matrices (nodes, 4, 4) at a time in seconds; None: at rest."""
        nodes = self.content["nodes"]
        shift = [np.array(node.get("translation", (0, 0, 0)), float) for node in nodes]
        turn = [Rotation.from_quat(node.get("rotation", (0, 0, 0, 1))) for node in nodes]
        for node, path, times, values in self.tracks() if time is not None else ():
            at = np.clip(time, times[0], times[-1])
            if path == "translation":
                shift[node] = np.array([np.interp(at, times, column) for column in values.T])
            else:
                turn[node] = Slerp(times, Rotation.from_quat(values))(at) if len(times) > 1 else Rotation(values[0])
        world = np.tile(np.eye(4), (len(nodes), 1, 1))

        def place(node: int, above: np.ndarray) -> None:
            local = np.eye(4)
            local[:3, :3], local[:3, 3] = turn[node].as_matrix(), shift[node]
            world[node] = above @ local
            for child in nodes[node].get("children", ()):
                place(child, world[node])

        for root in self.content["scenes"][self.content["scene"]]["nodes"]:
            place(root, np.eye(4))
        return world

    def skinned(self, time: float | None) -> list[tuple[np.ndarray, np.ndarray]]:
        """Vertices (V, 3) of every primitive at a time, and the node (V,) that moves each."""
        (skin,) = self.content["skins"]
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        bones = self.matrices(time)[skin["joints"]] @ inverse
        result = []
        for primitive in self.content["meshes"][0]["primitives"]:
            names = primitive["attributes"]
            points, joints, weights = (self.array(names[n]) for n in ("POSITION", "JOINTS_0", "WEIGHTS_0"))
            homogeneous = np.concatenate([points, np.ones((len(points), 1))], axis=1)
            blended = (bones[joints.astype(int)] * weights[..., None, None]).sum(axis=1)
            moved = np.einsum("vij,vj->vi", blended, homogeneous)[:, :3]
            result.append((moved, np.array(skin["joints"])[joints[:, 0]]))
        return result


def read(path: Path) -> Glb:
    """The JSON and the binary chunk; AssertionError where the container breaks the rules."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    chunks, at = {}, 12
    while at < len(data):
        size, kind = struct.unpack_from("<I4s", data, at)
        assert size % 4 == 0, "chunks are whole words"
        chunks[kind] = data[at + 8 : at + 8 + size]
        at += 8 + size
    assert list(chunks) == [b"JSON", b"BIN\0"]
    return Glb(json.loads(chunks[b"JSON"]), chunks[b"BIN\0"])


def broken_rules(glb: Glb) -> list[str]:
    """What a validator would object to, in words; empty for a good file."""
    content, found = glb.content, []
    (buffer,) = content["buffers"]
    if not buffer["byteLength"] <= len(glb.binary) <= buffer["byteLength"] + 3:
        found.append("the buffer is not as long as it says")
    bounded = {channel["input"] for animation in content["animations"] for channel in animation["samplers"]}
    for mesh in content["meshes"]:
        bounded |= {primitive["attributes"]["POSITION"] for primitive in mesh["primitives"]}
    for number, entry in enumerate(content["accessors"]):
        view = content["bufferViews"][entry["bufferView"]]
        size = np.dtype(KINDS[entry["componentType"]]).itemsize
        if view["byteOffset"] % 4 or (view["byteOffset"] + entry.get("byteOffset", 0)) % size:
            found.append(f"accessor {number} is not aligned")
        if entry["count"] * size * WIDTHS[entry["type"]] > view["byteLength"]:
            found.append(f"accessor {number} is longer than its view")
        if view["byteOffset"] + view["byteLength"] > buffer["byteLength"]:
            found.append(f"view of accessor {number} leaves the buffer")
            continue
        values = glb.array(number)
        if not np.isfinite(values).all():
            found.append(f"accessor {number} is not finite")
        if number in bounded and "min" not in entry:
            found.append(f"accessor {number} states no bounds")
        if "min" in entry and not (
            np.array_equal(np.float32(entry["min"]), values.min(axis=0))
            and np.array_equal(np.float32(entry["max"]), values.max(axis=0))
        ):
            found.append(f"accessor {number} states wrong bounds")
    targets = set()
    for node, path, times, values in glb.tracks():
        if (node, path) in targets:
            found.append(f"two tracks for {path} of node {node}")
        targets.add((node, path))
        if len(times) != len(values) or times[0] < 0 or (np.diff(times) <= 0).any():
            found.append("times do not increase, or do not fit the values")
        if path == "rotation" and np.abs(np.linalg.norm(values.astype(float), axis=1) - 1).max() > 1e-5:
            found.append(f"rotations of node {node} are not unit quaternions")
    for skin in content["skins"]:
        inverse = glb.array(skin["inverseBindMatrices"])
        if len(inverse) != len(skin["joints"]) or not np.allclose(inverse[:, [3, 7, 11, 15]], (0, 0, 0, 1)):
            found.append("inverse bind matrices do not fit the joints")
        for mesh in content["meshes"]:
            for primitive in mesh["primitives"]:
                names = primitive["attributes"]
                if glb.array(names["JOINTS_0"]).max() >= len(skin["joints"]):
                    found.append("a vertex is bound to no joint")
                if np.abs(glb.array(names["WEIGHTS_0"]).sum(axis=1) - 1).max() > 1e-5:
                    found.append("weights do not add up to 1")
                if np.abs(np.linalg.norm(glb.array(names["NORMAL"]).astype(float), axis=1) - 1).max() > 1e-4:
                    found.append("normals are not unit vectors")
                if glb.array(primitive["indices"]).max() >= len(glb.array(names["POSITION"])):
                    found.append("a triangle has a vertex too many")
    return found
