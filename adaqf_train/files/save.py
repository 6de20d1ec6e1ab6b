"""A motion into a file of the format its name says: `save_motion("bow.bvh", joints)`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from adaclip.files import atomic_file
from adaqf_train.errors import ExportError
from adaqf_train.files.bvh import write_bvh
from adaqf_train.files.gltf import write_glb
from adaqf_train.files.solve import Animation, Bones
from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.render.film import Film
from adaqf_train.render.page import Scene, Take, write_page
from adaqf_train.render.payload import FARTHEST
from adaqf_train.render.strip import strip
from adaqf_train.render.video import check_encoder, write_gif, write_mp4

SKELETAL: Mapping[str, Callable[..., Animation]] = {".bvh": write_bvh, ".glb": write_glb}  # one motion a file
PICTURES = (".html", ".mp4", ".gif", ".png")  # hold several motions, side by side
SLOWEST, FASTEST = 0.1, 1000.0  # frames a second
FORMATS = (".npy", *SKELETAL, *PICTURES)


def save_motion(
    path: str | Path,
    joints: np.ndarray,
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    caption: str = "",
    bones: Bones = "auto",
) -> Path:
    """Writes a motion as .npy, .bvh, .glb, .html, .mp4, .gif or .png, whichever the path ends in; returns the path.

    joints: (T, J, 3), metres, Y up. fps, skeleton: None takes the standard skeleton with that many joints and its
    frame rate. caption: shown in pages, pictures and films. bones: of .bvh and .glb, see `solve`.
    ExportError for other suffixes, folders that cannot be written to, joints of another shape or not finite.
    """
    return save_motions(path, [joints], fps, skeleton, [caption], bones)[0]


def save_motions(
    path: str | Path,
    motions: Sequence[np.ndarray],
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    captions: Sequence[str] | None = None,
    bones: Bones = "auto",
    report: Callable[[Path, Animation], None] = lambda path, animation: None,
) -> list[Path]:
    """Writes motions (T_i, J, 3) into one file where its format holds several, else into NAME_000, NAME_001 …

    Pages, films and pictures show them side by side. A .npy file holds one motion (T, J, 3), or several of one length
    (N, T, J, 3). captions: one for each. report: called with every .bvh and .glb file and what it holds.
    """
    path = checked_target(path)
    motions = [checked_joints(joints, f"motion {number}") for number, joints in enumerate(motions)]
    if not motions:
        raise ExportError(f"{path}: there is no motion to write.")
    captions = [""] * len(motions) if captions is None else list(captions)
    if len(captions) != len(motions):
        raise ExportError(f"{path}: {len(captions)} captions for {len(motions)} motions. Give one for each.")
    skeleton = skeleton or skeleton_of(motions[0].shape[1])
    if any(joints.shape[1] != len(skeleton) for joints in motions):
        counts = ", ".join(sorted({str(joints.shape[1]) for joints in motions}))
        raise ExportError(f"{path}: motions of {counts} joints, expected the {len(skeleton)} of {skeleton.name}.")
    fps = skeleton.fps if fps is None else fps
    if not SLOWEST <= fps <= FASTEST:
        raise ExportError(
            f"fps must lie between {SLOWEST:g} and {FASTEST:g}, got {fps}: give the frames a second of the "
            "motion, such as 20."
        )
    if path.suffix.lower() in PICTURES:
        _write_picture(path, motions, fps, captions)
        return [path]
    if path.suffix.lower() == ".npy":
        return save_arrays(path, motions)
    paths = numbered(path, len(motions))
    for target, joints in zip(paths, motions, strict=True):
        report(target, SKELETAL[path.suffix.lower()](target, joints, fps, skeleton, bones))
    return paths


def save_arrays(path: Path, arrays: Sequence[np.ndarray]) -> list[Path]:
    """Writes arrays (T_i, …) as float32: one alone, several of one length stacked, others into numbered files."""
    same = len({array.shape for array in arrays}) == 1
    paths = [path] if same else numbered(path, len(arrays))
    contents = [arrays[0] if len(arrays) == 1 else np.stack(arrays)] if same else arrays
    for target, content in zip(paths, contents, strict=True):
        with atomic_file(target) as staging, staging.open("wb") as file:
            np.save(file, content.astype(np.float32))
    return paths


def checked_target(path: str | Path) -> Path:
    """The path, if a motion can be written there: a known suffix, a folder that is or can be made, PyAV for .mp4."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS[:-1])
        raise ExportError(f"{path}: cannot write {path.suffix or 'that'}; name a {known} or {FORMATS[-1]} file.")
    if path.suffix.lower() == ".mp4":
        check_encoder()
    if path.is_dir():
        raise ExportError(f"{path}: is a folder. Name a file in it.")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ExportError(f"{path}: {folder} cannot be written to. Name another folder.")
    return path


def checked_joints(joints: np.ndarray, where: str) -> np.ndarray:
    """The joints as float64; ExportError unless they are finite numbers (T, 22 or 21, 3) in metres."""
    try:
        joints = np.asarray(joints, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{where}: joints are not an array of numbers ({error}). Expected (T, J, 3).") from error
    if joints.ndim != 3 or joints.shape[2] != 3 or len(joints) == 0:
        raise ExportError(f"{where}: joints have shape {joints.shape}, expected (frames, 22 or 21, 3).")
    try:
        skeleton_of(joints.shape[1])
    except ValueError as error:
        raise ExportError(f"{where}: {error}") from error
    if not np.isfinite(joints).all():
        frame = int((~np.isfinite(joints).all(axis=(1, 2))).argmax())
        raise ExportError(f"{where}: NaN or infinite at frame {frame}. Did the model diverge?")
    if np.abs(joints).max() > FARTHEST:
        raise ExportError(f"{where}: a joint is {np.abs(joints).max():.0f} m from the origin. Expected metres.")
    return joints


def numbered(path: Path, count: int) -> list[Path]:
    """The path, or for several files NAME_000.bvh, NAME_001.bvh …"""
    return [path] if count == 1 else [path.with_stem(f"{path.stem}_{number:03d}") for number in range(count)]


def _write_picture(path: Path, motions: Sequence[np.ndarray], fps: float, captions: Sequence[str]) -> None:
    suffix = path.suffix.lower()
    if suffix == ".html":
        scenes = _scenes(motions, captions)
        write_page(path, scenes, title="Motions", fps=fps, grid=all(len(scene.takes) == 1 for scene in scenes))
    elif suffix == ".png":
        with atomic_file(path) as staging:
            strip(motions, captions, fps).save(staging, "PNG")
    else:
        write = {".mp4": write_mp4, ".gif": write_gif}[suffix]
        write(path, Film(motions, captions, fps), fps)


def _scenes(motions: Sequence[np.ndarray], captions: Sequence[str]) -> list[Scene]:
    """A scene for each caption, with all motions that it has one after the other."""
    scenes = []
    pairs = itertools.groupby(zip(captions, motions, strict=True), key=lambda pair: pair[0])
    for caption, group in pairs:
        samples = [joints for _, joints in group]
        labels = [f"sample {number}" for number in range(1, len(samples) + 1)] if len(samples) > 1 else [""]
        scenes.append(Scene(caption, tuple(map(Take, labels, samples))))
    return scenes
