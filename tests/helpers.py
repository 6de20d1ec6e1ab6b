"""Helpers that several test files call."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from adaqf_train.config import RunConfig
from adaqf_train.motion import mapping
from adaqf_train.motion.skeleton import HUMANML3D, KIT

PROMPTS = ["a person walks forward", "a person waves twice", "a person turns left and then bows deeply"]

# Tolerance for float32 results that pass through a few layers, as a share of the largest value: about 170 units in the
# last place. Processors, vector widths and thread counts add in different orders and differ by a few units.
FLOAT32 = 2e-5


def deviation(actual: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    """Largest difference of two arrays of one shape, as a share of the largest magnitude in `expected`."""
    first, second = (
        torch.as_tensor(np.array(value) if isinstance(value, np.ndarray) else value) for value in (actual, expected)
    )
    first, second = first.detach().double(), second.detach().double()
    assert first.shape == second.shape, (first.shape, second.shape)
    if not second.numel():
        return 0.0
    return float((first - second).abs().max() / (second.abs().max() or 1.0))


def settings_of(config: RunConfig, **changes: object) -> list[str]:
    """A configuration as --set options; changes are written training__steps=5."""
    flat = {
        f"{group}.{name}": value
        for group, values in asdict(config).items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    flat |= {name.replace("__", "."): value for name, value in changes.items()}
    written = {name: ",".join(map(str, value)) if isinstance(value, tuple) else value for name, value in flat.items()}
    return [part for name, value in written.items() for part in ("--set", f"{name}={value}")]


def blocks(language: str, page: str) -> list[str]:
    """The code blocks of a Markdown page in that language."""
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def verbs_of(page: str) -> list[list[str]]:
    """The arguments of every `adaqf` command in a page's shell blocks, however it is launched."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh", page) for line in block.splitlines()]
    found = []
    for words in lines:
        if words[:1] == ["adaqf"]:
            found.append(words[1:])
        elif "adaqf_train" in words:  # … -m adaqf_train VERB …
            found.append(words[words.index("adaqf_train") + 1 :])
    return found


def kit_body(frames: int, seed: int = 0) -> np.ndarray:
    """A body of KIT-ML's 21 joints that stands and sways: (frames, 21, 3) in its units, 640 a metre."""
    rest = np.zeros((21, 3))
    for joint, parent in enumerate(KIT.parents):
        if parent >= 0:
            # The rest directions have left and right exchanged; in KIT-ML's files the right hip has negative x.
            rest[joint] = rest[parent] + 250 * np.array(KIT.rest_directions[joint], float) * [-1, 1, 1]
    sway = np.random.default_rng(seed).uniform(0, 6, (1, 21, 3))
    return rest + 20 * np.sin(np.arange(frames)[:, None, None] / 4 + sway)


def cut_pack(source: Path, folder: Path, clips: int) -> Path:
    """A pack with the first clips of each split of another."""
    folder.mkdir()
    for split in ("train", "val", "test"):
        with np.load(source / f"{split}.npz") as pack:
            offsets = pack["offsets"][: clips + 1]
            arrays = {"positions": pack["positions"][: offsets[-1]], "offsets": offsets, "names": pack["names"][:clips]}
            np.savez(folder / f"{split}.npz", scale=pack["scale"], fps=pack["fps"], **arrays)
    shutil.copyfile(source / "captions.json", folder / "captions.json")
    return folder


def write_clips(folder: Path, lengths: Mapping[str, int], features: int = 263) -> Path:
    """A data folder of random features: clip name -> frames, all of them in train, each with one caption."""
    rng = np.random.default_rng(0)
    for part in ("new_joint_vecs", "texts"):
        (folder / part).mkdir(parents=True)
    for name, frames in lengths.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", rng.standard_normal((frames, features), dtype=np.float32))
        (folder / "texts" / f"{name}.txt").write_text(f"{name} walks#walk/VERB#0.0#0.0\n", encoding="utf-8")
    np.save(folder / "Mean.npy", np.zeros(features, np.float32))
    np.save(folder / "Std.npy", np.ones(features, np.float32))
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in lengths), encoding="utf-8")
    return folder


Joint = tuple[str, int, Sequence[float], str]  # name, parent (-1: root), offset, channels in words


def bvh_text(joints: Sequence[Joint], values: np.ndarray, frame_time: float = 0.05) -> str:
    """A BVH file of those joints, depth first, every leaf with an End Site one unit above it."""

    def lines(joint: int, indent: str) -> Iterator[str]:
        name, parent, offset, channels = joints[joint]
        children = [child for child, other in enumerate(joints) if other[1] == joint]
        yield f"{indent}{'JOINT' if parent >= 0 else 'ROOT'} {name}"
        yield f"{indent}{{"
        yield f"{indent}  OFFSET {' '.join(map(repr, map(float, offset)))}"
        yield f"{indent}  CHANNELS {len(channels.split())} {channels}"
        for child in children:
            yield from lines(child, indent + "  ")
        if not children:
            yield from (f"{indent}  End Site", f"{indent}  {{", f"{indent}    OFFSET 0 1 0", f"{indent}  }}")
        yield f"{indent}}}"

    motion = [" ".join(map(repr, row)) for row in np.asarray(values, float).tolist()]
    head = ["HIERARCHY", *lines(0, ""), "MOTION", f"Frames: {len(motion)}", f"Frame Time: {frame_time!r}"]
    return "\n".join([*head, *motion]) + "\n"


def bvh_body(
    preset: str = "lafan1", *, frames: int = 50, seed: int = 0, order: str = "ZYX", frame_time: float = 0.05
) -> str:
    """A BVH file of a body with a preset's joint names that stands and moves every joint a little, in centimetres."""
    points = mapping.PRESETS[preset]
    names = {joint: point if isinstance(point, str) else joint for joint, point in points.items()}
    turns = " ".join(f"{axis}rotation" for axis in order)
    tree: list[int] = []  # depth first, as values are in a file

    def visit(joint: int) -> None:
        tree.append(joint)
        for child, parent in enumerate(HUMANML3D.parents):
            if parent == joint:
                visit(child)

    visit(0)
    joints: list[Joint] = []
    for joint in tree:
        parent = HUMANML3D.parents[joint]
        offset = 100 * np.array(HUMANML3D.rest_directions[joint]) * (0, *HUMANML3D.bone_lengths)[joint]
        joints.append((names[HUMANML3D.joints[joint]], tree.index(parent) if parent >= 0 else -1, offset, turns))
    joints[0] = (*joints[0][:3], f"Xposition Yposition Zposition {turns}")
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] * frame_time
    angles = 15 * np.sin(rng.uniform(2, 5, 66) * time + rng.uniform(0, 6, 66))
    angles[:, :3] /= 3  # the body stays upright
    root = np.array([0, 100, 0]) + 50 * time * np.array([0, 0, 1])
    return bvh_text(joints, np.hstack([root, angles]), frame_time)
