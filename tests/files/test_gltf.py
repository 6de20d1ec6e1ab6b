"""glTF files: valid, with the joints where they were and a body around them that goes along."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch

from adaqf_train.files import write_glb
from adaqf_train.files.mesh import sphere, surfaces
from adaqf_train.motion import features, mapping
from adaqf_train.motion.bvh import read_bvh
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files.glb import Glb, broken_rules, read
from tests.files.motions import dancer, posed, wobbled, written

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)
KHRONOS = """
require("gltf-validator").validateBytes(new Uint8Array(require("fs").readFileSync(process.argv[1])))
  .then((report) => console.log(JSON.stringify(report.issues)))
"""


def joints_of(glb: Glb, skeleton, fps: float, frames: int) -> np.ndarray:
    """Joints (T, J, 3) of every frame, by the file's own nodes and tracks."""
    order = [[node["name"] for node in glb.content["nodes"]].index(name) for name in skeleton.joints]
    return np.stack([glb.matrices(frame / fps)[order, :3, 3] for frame in range(frames)])


@SKELETONS
@pytest.mark.parametrize(("metres", "bones"), [(0.0, "rigid"), (0.03, "rigid"), (0.03, "stretch")])
def test_glb_joints_are_where_they_were(tmp_path, skeleton, metres, bones):
    joints = wobbled(dancer(30, skeleton=skeleton), metres)
    animation = written(write_glb, tmp_path / "a.glb", joints, skeleton.fps, skeleton, bones)
    glb = read(tmp_path / "a.glb")
    away = np.linalg.norm(joints_of(glb, skeleton, skeleton.fps, 30) - joints, axis=-1).max()
    assert away < 0.0005 + (4 * metres if bones == "rigid" else 0)
    moved = {node for node, path, _, _ in glb.tracks() if path == "translation"}
    assert moved == (set(range(len(skeleton))) if bones == "stretch" else {0})
    assert animation.stretches == (bones == "stretch")
    times = next(glb.tracks())[2]
    assert times[-1] == pytest.approx(29 / skeleton.fps)


@SKELETONS
@pytest.mark.parametrize("frames", [1, 2, 33])
def test_glb_keeps_the_rules(tmp_path, skeleton, frames):
    written(write_glb, tmp_path / "a.glb", dancer(frames, skeleton=skeleton), skeleton.fps, skeleton)
    assert broken_rules(read(tmp_path / "a.glb")) == []


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # bytes shifted by two are numbers of any size
def test_glb_rules_catch_damaged_files(tmp_path):
    """The negative control of the test above."""
    written(write_glb, tmp_path / "a.glb", dancer(5), 20, HUMANML3D)
    good = read(tmp_path / "a.glb")
    position = good.content["meshes"][0]["primitives"][0]["attributes"]["POSITION"]

    def damaged(change) -> list[str]:
        glb = Glb(copy.deepcopy(good.content), good.binary)
        change(glb)
        return broken_rules(glb)

    def stretched_quaternions(glb: Glb) -> None:
        sampler = glb.content["animations"][0]["samplers"][0]
        view = glb.content["bufferViews"][glb.content["accessors"][sampler["output"]]["bufferView"]]
        start, end = view["byteOffset"], view["byteOffset"] + view["byteLength"]
        values = 2 * np.frombuffer(glb.binary[start:end], "<f4")
        glb.binary = glb.binary[:start] + values.tobytes() + glb.binary[end:]

    accessors = good.content["accessors"]
    assert damaged(lambda glb: glb.content["accessors"][position].pop("min"))
    assert damaged(lambda glb: glb.content["accessors"][position].update(max=[0, 0, 0]))
    assert damaged(lambda glb: glb.content["bufferViews"][1].update(byteOffset=2))
    assert damaged(lambda glb: glb.content["accessors"][0].update(count=accessors[0]["count"] + 1))
    assert damaged(lambda glb: glb.content["buffers"][0].update(byteLength=len(glb.binary) + 8))
    assert damaged(lambda glb: glb.content["skins"][0]["joints"].pop())
    assert damaged(stretched_quaternions)


def test_glb_body_rests_on_the_floor_and_moves(tmp_path):
    joints = dancer(20)
    written(write_glb, tmp_path / "a.glb", joints, 20, HUMANML3D)
    glb = read(tmp_path / "a.glb")
    rest = glb.skinned(None)
    for (points, _), primitive in zip(rest, glb.content["meshes"][0]["primitives"], strict=True):
        np.testing.assert_allclose(points, glb.array(primitive["attributes"]["POSITION"]), atol=1e-5)
    lowest = min(points[:, 1].min() for points, _ in rest)
    assert -0.05 < lowest < 0.05
    assert max(points[:, 1].max() for points, _ in rest) > 1.5
    for frame in (0, 7, 19):
        nodes = glb.matrices(frame / 20)[:, :3, 3]
        for points, bound in glb.skinned(frame / 20):
            # Flesh is at most a thigh away from the joint it turns with.
            assert np.linalg.norm(points - nodes[bound], axis=1).max() < 0.6
        every = np.concatenate([points for points, _ in glb.skinned(frame / 20)])
        away = np.linalg.norm(every[None] - joints[frame][:, None], axis=-1).min(axis=1)
        assert away.max() < 0.13  # every joint is covered
    other = np.concatenate([points for points, _ in glb.skinned(0)])
    assert np.linalg.norm(other[None] - joints[19][:, None], axis=-1).min(axis=1).max() > 0.2  # control: it moves


def test_surfaces_are_closed_and_face_outward():
    pose = posed({0: torch.zeros(1, 3)})[0]  # the T-pose
    assert {surface.tone for surface in surfaces(HUMANML3D, pose)} == {"body", "left", "right"}
    for surface in surfaces(HUMANML3D, pose):
        edges = np.concatenate([surface.triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
        forth, back = {tuple(edge) for edge in edges.tolist()}, {(b, a) for a, b in edges.tolist()}
        assert forth == back  # each edge is shared by two triangles, once in each direction
        a, b, c = (surface.points[surface.triangles[:, corner]] for corner in range(3))
        outward = (np.cross(b - a, c - a) * surface.normals[surface.triangles].mean(axis=1)).sum(axis=1)
        # Where three balls meet a sliver may fold; the rest of the surface faces outward.
        assert outward[outward < 0].sum() > -0.01 * np.abs(outward).sum()


def test_sphere_is_round():
    points, triangles = sphere(2)
    assert (len(points), len(triangles)) == (162, 320)
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 1e-12
    volume = np.linalg.det(points[triangles]).sum() / 6
    assert volume == pytest.approx(4 / 3 * np.pi, rel=0.05)


@pytest.fixture
def khronos() -> list[str]:
    """The Khronos validator's command, where node and its package (on NODE_PATH) are installed."""
    node = shutil.which("node")
    command = [node or "node", "-e", KHRONOS]
    probe = [*command[:2], 'require("gltf-validator")']
    if node is None or subprocess.run(probe, capture_output=True, env=os.environ, check=False).returncode:
        pytest.skip("needs node and: npm install gltf-validator (with NODE_PATH set to its node_modules)")
    return command


@SKELETONS
@pytest.mark.parametrize("metres", [0.0, 0.03])
def test_glb_passes_the_khronos_validator(tmp_path, khronos, skeleton, metres):
    path = tmp_path / "a.glb"
    bones = "stretch" if metres else "rigid"
    written(write_glb, path, wobbled(dancer(30, skeleton=skeleton), metres), skeleton.fps, skeleton, bones)
    issues = json.loads(subprocess.run([*khronos, str(path)], capture_output=True, check=True, text=True).stdout)
    assert issues["messages"] == []
    path.write_bytes(path.read_bytes()[:-4])  # control
    issues = json.loads(subprocess.run([*khronos, str(path)], capture_output=True, check=True, text=True).stdout)
    assert issues["numErrors"] > 0


@pytest.mark.data
def test_glb_keeps_a_recorded_clip_in_place(shared, tmp_path):
    bvh = read_bvh(shared("bandai-namco") / "bvh" / "dataset-1_punch_normal_001.bvh")
    joints = mapping.weights(bvh.names, mapping.PRESETS["bandai-namco"]) @ torch.from_numpy(bvh.positions(20.0))
    joints = features.decode(features.encode(joints.numpy()))
    animation = written(write_glb, tmp_path / "a.glb", joints, 20, HUMANML3D)
    assert not animation.stretches
    again = joints_of(read(tmp_path / "a.glb"), HUMANML3D, 20, len(joints))
    assert np.linalg.norm(again - joints, axis=-1).max() < 0.001
