"""Save a motion in the format that the file's name asks for: `save_motion("bow.bvh", joints)`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adaclip.files import atomic_file
from adaqf_train.errors import ExportError
from adaqf_train.files.animation import Animation, Bones, solve_rotations
from adaqf_train.files.bvh import write_bvh
from adaqf_train.files.gltf import write_glb
from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.render.page import Scene, Take, write_page
from adaqf_train.render.payload import checked_joints
from adaqf_train.render.pictures import Film, strip
from adaqf_train.render.video import check_encoder, write_gif, write_mp4

SLOWEST, FASTEST = 0.1, 1000.0  # frames per second


def save_motion(
    path: str | Path,
    joints: np.ndarray,
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    caption: str = "",
    bones: Bones = "rigid",
) -> Path:
    """Save a motion as .npy, .bvh, .glb, .html, .mp4, .gif or .png, according to the suffix of the path.

    Args:
        path: The file; missing folders are created.
        joints: Positions (T, J, 3), metres, Y up; J = 22 (HumanML3D) or 21 (KIT-ML).
        fps: Frames per second; None takes the skeleton's: 20 for 22 joints, 12.5 for 21.
        skeleton: None takes the standard skeleton with that number of joints.
        caption: Text in pages, pictures and films.
        bones: Whether bones keep their lengths in .bvh and .glb files, "rigid", or joints their exact positions,
            "stretch". Many programs misread .bvh files whose bones stretch.

    Returns:
        The path.

    Raises:
        ExportError: The suffix is unknown, the folder cannot be written to, .mp4 is requested without PyAV, `fps` is
            out of range, or the joints have another shape, are not finite or not in metres.
    """
    return save_motions(path, [joints], fps, skeleton, [caption], bones)[0]


def save_motions(
    path: str | Path,
    motions: Sequence[np.ndarray],
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    captions: Sequence[str] | None = None,
    bones: Bones = "rigid",
    report: Callable[[Path, Animation], None] = lambda path, animation: None,
) -> list[Path]:
    """Save several motions (T_i, J, 3): in one file if the format can hold them, else in numbered files.

    Pages, films and pictures show the motions side by side. A .npy file holds one motion (T, J, 3), or several of one
    length (N, T, J, 3). Arguments are those of `save_motion`; `report` is called with the path and the animation of
    every .bvh and .glb file.
    """
    path = checked_target(path)
    try:
        motions = [checked_joints(joints, f"{path}: motion {number}") for number, joints in enumerate(motions)]
    except ValueError as error:
        raise ExportError(str(error)) from error
    if not motions:
        raise ExportError(f"{path}: there are no motions to save.")
    captions = [""] * len(motions) if captions is None else list(captions)
    if len(captions) != len(motions):
        raise ExportError(f"{path}: {len(captions)} captions for {len(motions)} motions. Give one for each.")
    skeleton = skeleton or skeleton_of(motions[0].shape[1])
    numbers = {joints.shape[1] for joints in motions}
    if numbers != {len(skeleton)}:
        counts = ", ".join(sorted(map(str, numbers)))
        raise ExportError(f"{path}: motions of {counts} joints, expected the {len(skeleton)} of {skeleton.name}.")
    fps = skeleton.fps if fps is None else fps
    if not SLOWEST <= fps <= FASTEST:
        raise ExportError(f"fps must lie between {SLOWEST:g} and {FASTEST:g}, got {fps}. Give a number such as 20.")
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        PICTURES[suffix](path, motions, captions, fps)
        return [path]
    if suffix == ".npy":
        return save_arrays(path, motions)
    paths = _numbered(path, len(motions))
    for target, joints in zip(paths, motions, strict=True):
        animation = solve_rotations(joints, skeleton, bones)
        SKELETAL[suffix](target, animation, fps)
        report(target, animation)
    return paths


def save_arrays(path: Path, arrays: Sequence[np.ndarray]) -> list[Path]:
    """Save arrays (T_i, …) as float32: one as it is, several of one length stacked, others in numbered files."""
    if len({array.shape for array in arrays}) == 1:
        paths, contents = [path], [np.stack(arrays) if len(arrays) > 1 else arrays[0]]
    else:
        paths, contents = _numbered(path, len(arrays)), arrays
    for target, content in zip(paths, contents, strict=True):
        with atomic_file(target) as staging, staging.open("wb") as file:
            np.save(file, content.astype(np.float32))
    return paths


def checked_target(path: str | Path) -> Path:
    """The path, if a motion can be saved there: a known suffix, a writable folder, and PyAV for .mp4."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        known = ", ".join(FORMATS[:-1])
        raise ExportError(f"{path}: cannot write {path.suffix or 'that'}; name a {known} or {FORMATS[-1]} file.")
    if path.suffix.lower() == ".mp4":
        check_encoder()
    if reason := unwritable(path):
        raise ExportError(f"{reason}. Name another file.")
    return path


def unwritable(path: Path) -> str | None:
    """Why no file can be written at a path; None if one can. Missing folders are no reason."""
    if path.is_dir():
        return f"{path}: is a folder"
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return f"{path}: {folder} cannot be written to"
    return None


def _numbered(path: Path, count: int) -> list[Path]:
    return [path] if count == 1 else [path.with_stem(f"{path.stem}_{number:03d}") for number in range(count)]


def _write_page(path: Path, motions: Sequence[np.ndarray], captions: Sequence[str], fps: float) -> None:
    """Write a page with a scene for each run of motions with the same caption."""
    scenes = []
    for caption, group in itertools.groupby(zip(captions, motions, strict=True), key=lambda pair: pair[0]):
        samples = [joints for _, joints in group]
        labels = [f"sample {number}" for number in range(1, len(samples) + 1)] if len(samples) > 1 else [""]
        scenes.append(Scene(caption, tuple(map(Take, labels, samples))))
    write_page(path, scenes, title="Motions", fps=fps, grid=all(len(scene.takes) == 1 for scene in scenes))


def _write_strip(path: Path, motions: Sequence[np.ndarray], captions: Sequence[str], fps: float) -> None:
    with atomic_file(path) as staging:
        strip(motions, captions, fps).save(staging, "PNG")


SKELETAL = {".bvh": write_bvh, ".glb": write_glb}  # one motion a file
PICTURES = {  # show several motions side by side
    ".html": _write_page,
    ".mp4": lambda path, motions, captions, fps: write_mp4(path, Film(motions, captions, fps), fps),
    ".gif": lambda path, motions, captions, fps: write_gif(path, Film(motions, captions, fps), fps),
    ".png": _write_strip,
}
FORMATS = (".npy", *SKELETAL, *PICTURES)
