"""Other programs place the joints of exported files where they were; each is skipped where it is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from adaqf_train.files import write_bvh, write_glb
from adaqf_train.motion.skeleton import HUMANML3D, KIT
from tests.files.motions import dancer, wobbled, written

WRITERS = {".bvh": write_bvh, ".glb": write_glb}


@pytest.fixture(scope="module")
def three() -> list[str]:
    """The command that reads a file with three.js, where node and three (in NODE_PATH) are installed."""
    node, packages = shutil.which("node"), os.environ.get("NODE_PATH", "")
    if node is None or not (Path(packages) / "three" / "package.json").is_file():
        pytest.skip("needs node and: npm install three (with NODE_PATH set to its node_modules)")
    return [node, str(Path(__file__).with_name("three.mjs"))]


@pytest.mark.parametrize("skeleton", [HUMANML3D, KIT], ids=lambda s: s.name)
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("metres", [0.0, 0.002])
def test_three_js_places_joints_where_they_were(tmp_path, three, skeleton, suffix, metres):
    path, joints = tmp_path / f"a{suffix}", wobbled(dancer(30, skeleton=skeleton), metres)
    written(WRITERS[suffix], path, joints, 20, skeleton)
    said = subprocess.run([*three, str(path), "20", "30"], capture_output=True, check=True, text=True).stdout
    positions = json.loads(said)
    found = np.stack([positions[name] for name in skeleton.joints], axis=1)
    assert np.linalg.norm(found - joints, axis=-1).max() < 0.001 + 3 * metres


@pytest.mark.parametrize("metres", [0.0, 0.002])
def test_bvhio_places_joints_where_they_were(tmp_path, metres):
    bvhio = pytest.importorskip("bvhio", reason="needs: pip install bvhio")
    path, joints = tmp_path / "a.bvh", wobbled(dancer(10), metres)
    written(write_bvh, path, joints, 20, HUMANML3D)
    root = bvhio.readAsHierarchy(str(path))
    nodes = {node.Name: node for node, _, _ in root.layout()}
    for frame, pose in enumerate(joints):
        root.loadPose(frame)
        found = np.array([nodes[name].PositionWorld for name in HUMANML3D.joints])
        assert np.linalg.norm(found - pose, axis=-1).max() < 0.001 + 3 * metres
