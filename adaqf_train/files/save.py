"""Save a motion in the format that the file's name asks for: `save_motion("bow.bvh", joints)`."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adaclip.files import atomic_file
from adaqf_train.errors import ExportError
from adaqf_train.files.animation import Animation, Bones, at_rate, solve_rotations
from adaqf_train.files.bvh import write_bvh
from adaqf_train.files.feet import hold_feet
from adaqf_train.files.gltf import write_glb
from adaqf_train.files.names import Names, joint_names
from adaqf_train.files.smpl import BodyModel, fit_smpl, write_smpl
from adaqf_train.motion.skeleton import Skeleton, skeleton_of
from adaqf_train.render.page import Scene, Take, write_page
from adaqf_train.render.payload import checked_joints
from adaqf_train.render.pictures import Film, strip
from adaqf_train.render.video import check_encoder, write_gif, write_mp4

SLOWEST, FASTEST = 0.1, 1000.0  # frames per second
FAR = 0.05  # metres; where rigid bones move a joint further, the clip's bones really change their lengths
Report = Callable[[str], None]


def save_motion(
    path: str | Path,
    joints: np.ndarray,
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    caption: str = "",
    bones: Bones = "rigid",
    **options: Any,
) -> Path:
    """Save a motion as .npy, .bvh, .glb, .npz, .html, .mp4, .gif or .png, according to the suffix of the path.

    Args:
        path: The file; missing folders are created. An .npz file holds SMPL's pose parameters, as AMASS's files do.
        joints: Positions (T, J, 3), metres, Y up; J = 22 (HumanML3D) or 21 (KIT-ML).
        fps: Frames per second of the file; None takes those of the joints.
        skeleton: None takes the standard skeleton with that number of joints.
        caption: Text in pages, pictures and films.
        bones: Whether bones keep their lengths in .bvh and .glb files, "rigid", or joints their exact positions,
            "stretch". Many programs misread .bvh files whose bones stretch.
        options: Further options of `save_motions`.

    Returns:
        The path.

    Raises:
        ExportError: The suffix is unknown, the folder cannot be written to, .mp4 is requested without PyAV, a frame
            rate is out of range, or the joints have another shape, are not finite or not in metres.
    """
    return save_motions(path, [joints], fps, skeleton, [caption], bones, **options)[0]


def save_motions(
    path: str | Path,
    motions: Sequence[np.ndarray],
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    captions: Sequence[str] | None = None,
    bones: Bones = "rigid",
    *,
    source_fps: float | Sequence[float | None] | None = None,
    names: Names = "standard",
    lock_feet: bool = False,
    body: BodyModel = "smplh",
    report: Report = lambda line: None,
) -> list[Path]:
    """Save several motions (T_i, J, 3): in one file if the format can hold them, else in numbered files.

    Pages, films and pictures show the motions side by side. A .npy file holds one motion (T, J, 3), or several of one
    length (N, T, J, 3).

    Args:
        path: As in `save_motion`.
        motions: Positions (T_i, J, 3), metres, Y up.
        fps: As in `save_motion`.
        skeleton: As in `save_motion`.
        captions: One for each motion; None: none.
        bones: As in `save_motion`.
        source_fps: Frames per second of the motions, one for all or one for each; None takes `fps`, else the
            skeleton's: 20 for 22 joints, 12.5 for 21. Motions of another rate than `fps` are interpolated.
        names: Joint names in .bvh and .glb files: "standard", "mixamo", "ue" or "unity".
        lock_feet: Hold feet that touch the floor in place. This changes the legs.
        body: Model of .npz files, "smplh" or "smplx".
        report: Called with each sentence about what was changed, and how far joints are from their positions.

    Returns:
        The paths of the files.

    Raises:
        ExportError: As in `save_motion`.
    """
    path = checked_target(path)
    check_options(path, bones, names, body)
    motions, captions, skeleton = _checked(path, motions, captions, skeleton)
    rates = _rates(source_fps, fps, skeleton, len(motions))
    fps = rates[0] if fps is None else fps
    joint_names(skeleton, names)
    suffix = path.suffix.lower()
    if suffix in (*SKELETAL, ".npz"):  # one motion a file
        paths = _numbered(path, len(motions))
        for target, joints, rate in zip(paths, motions, rates, strict=True):
            if suffix == ".npz":
                _write_smpl(target, joints, skeleton, (rate, fps), lock_feet, body, report)
            else:
                animation = _animation(target, joints, skeleton, bones, rate if lock_feet else None, report)
                SKELETAL[suffix](target, at_rate(animation, rate, fps), fps, names)
        return paths
    if lock_feet:
        motions = [
            _with_feet_held(path, joints, skeleton, rate, report) for joints, rate in zip(motions, rates, strict=True)
        ]
    motions = [resampled(joints, skeleton, rate, fps) for joints, rate in zip(motions, rates, strict=True)]
    if suffix == ".npy":
        return save_arrays(path, motions)
    PICTURES[suffix](path, motions, captions, fps)
    return [path]


def resampled(joints: np.ndarray, skeleton: Skeleton, source_fps: float, fps: float) -> np.ndarray:
    """Joints (T, J, 3) at another frame rate: rotations, lengths of bones and the root's path are interpolated."""
    if source_fps == fps:
        return joints
    return at_rate(solve_rotations(joints, skeleton, "stretch"), source_fps, fps).positions()


def _checked(
    path: Path, motions: Sequence[np.ndarray], captions: Sequence[str] | None, skeleton: Skeleton | None
) -> tuple[list[np.ndarray], list[str], Skeleton]:
    try:
        motions = [checked_joints(joints, f"{path}: motion {number}") for number, joints in enumerate(motions)]
        if not motions:
            raise ExportError(f"{path}: there are no motions to save.")
        skeleton = skeleton or skeleton_of(motions[0].shape[1])
    except ValueError as error:
        raise ExportError(str(error)) from error
    captions = [""] * len(motions) if captions is None else list(captions)
    if len(captions) != len(motions):
        raise ExportError(f"{path}: {len(captions)} captions for {len(motions)} motions. Give one for each.")
    numbers = {joints.shape[1] for joints in motions}
    if numbers != {len(skeleton)}:
        counts = ", ".join(sorted(map(str, numbers)))
        raise ExportError(f"{path}: motions of {counts} joints, expected the {len(skeleton)} of {skeleton.name}.")
    return motions, captions, skeleton


def _rates(
    source: float | Sequence[float | None] | None, fps: float | None, skeleton: Skeleton, count: int
) -> list[float]:
    """The frame rate of each motion."""
    given = list(source) if isinstance(source, Sequence) else [source] * count
    if len(given) != count:
        raise ExportError(f"{len(given)} frame rates for {count} motions. Give one for each, or one for all.")
    rates = [next(rate for rate in (own, fps, skeleton.fps) if rate is not None) for own in given]
    for rate in rates if fps is None else [*rates, fps]:
        if not SLOWEST <= rate <= FASTEST:
            raise ExportError(
                f"fps must lie between {SLOWEST:g} and {FASTEST:g}, got {rate}. Give a number such as 20."
            )
    return rates


def _with_feet_held(path: Path, joints: np.ndarray, skeleton: Skeleton, fps: float, report: Report) -> np.ndarray:
    joints, contacts = hold_feet(joints, skeleton, fps)
    report(f"{path}: {contacts}")
    return joints


def _write_smpl(
    path: Path,
    joints: np.ndarray,
    skeleton: Skeleton,
    rates: tuple[float, float],
    lock_feet: bool,
    body: BodyModel,
    report: Report,
) -> None:
    if lock_feet:
        joints = _with_feet_held(path, solve_rotations(joints, skeleton).positions(), skeleton, rates[0], report)
    motion = fit_smpl(joints, skeleton)
    write_smpl(path, replace(motion, animation=at_rate(motion.animation, *rates)), rates[1], body)
    report(
        f"{path}: joints of SMPL's mean body are {100 * motion.error:.1f} cm away on average; the path is scaled "
        f"by {motion.scale:.3f} and {'raised' if motion.lift >= 0 else 'lowered'} by {100 * abs(motion.lift):.1f} cm"
    )


def _animation(
    path: Path, joints: np.ndarray, skeleton: Skeleton, bones: Bones, locked_fps: float | None, report: Report
) -> Animation:
    """The rotations of a motion, with feet held if its frame rate is given."""
    animation = solve_rotations(joints, skeleton, bones)
    if bones == "stretch":
        report(f"{path}: bones change their lengths")
    else:
        report(f"{path}: bones keep their lengths; joints are within {1000 * animation.error:.1f} mm")
    if bones == "stretch" and path.suffix.lower() == ".bvh":
        warnings.warn(
            f"{path}: many programs misread or refuse position channels of joints. Use rigid bones, or a .glb file.",
            stacklevel=3,
        )
    elif animation.error > FAR:
        warnings.warn(
            f"{path}: rigid bones move a joint by up to {100 * animation.error:.0f} cm, because the bones of this "
            "motion change their lengths. Check the motion, or let bones stretch in a .glb file.",
            stacklevel=3,
        )
    if locked_fps is not None:  # on the bones of the file: feet held on others would slide again
        joints = _with_feet_held(path, animation.positions(), skeleton, locked_fps, report)
        animation = solve_rotations(joints, skeleton, bones)
    return animation


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


def check_options(path: Path, bones: Bones, names: Names, body: BodyModel) -> None:
    """Refuse options that a file of that suffix cannot follow."""
    suffix = path.suffix.lower()
    given = {
        f"--bones {bones}": bones != "rigid" and suffix not in SKELETAL,
        f"--names {names}": names != "standard" and suffix not in SKELETAL,
        f"--body {body}": body != "smplh" and suffix != ".npz",
    }
    for option, useless in given.items():
        if useless:
            fitting = ".npz" if option.startswith("--body") else " or ".join(SKELETAL)
            raise ExportError(f"{path}: {option} has no effect on {suffix} files. Omit it, or name a {fitting} file.")


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


SKELETAL = {".bvh": write_bvh, ".glb": write_glb}
PICTURES = {  # show several motions side by side
    ".html": _write_page,
    ".mp4": lambda path, motions, captions, fps: write_mp4(path, Film(motions, captions, fps), fps),
    ".gif": lambda path, motions, captions, fps: write_gif(path, Film(motions, captions, fps), fps),
    ".png": _write_strip,
}
FORMATS = (".npy", *SKELETAL, ".npz", *PICTURES)
