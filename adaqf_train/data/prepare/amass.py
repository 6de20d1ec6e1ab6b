"""Convert AMASS (SMPL-H or SMPL-X parameters, .npz) to HumanML3D's layout, with the user's own body models.

https://mano.is.tue.mpg.de and https://smpl-x.is.tue.mpg.de license the models to each user; the `smplx` package reads
them. The models provide the joints of a body's shape only; the poses are applied here.
"""

from __future__ import annotations

import contextlib
import io
import math
import pickle
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from adaqf_train.data.archives import BROKEN_ARCHIVE, open_archive
from adaqf_train.data.prepare import recordings
from adaqf_train.data.prepare.recordings import FPS, WINDOW, Recording, Summary
from adaqf_train.errors import DataError
from adaqf_train.motion import kinematics, rotations
from adaqf_train.motion.orientation import turned
from adaqf_train.motion.skeleton import HUMANML3D

KEYS = ("trans", "poses", "betas", "gender", "mocap_framerate")  # of SMPL-H
KEYS_X = ("trans", "root_orient", "pose_body", "betas", "gender", "mocap_frame_rate")  # of SMPL-X (stage II)
JOINTS = len(HUMANML3D)  # the first 22 joints of SMPL-H and SMPL-X are the body, in one order
DOWNLOADS = {"SMPLH": "https://mano.is.tue.mpg.de", "SMPLX": "https://smpl-x.is.tue.mpg.de"}
SHAPE = 10  # shape coefficients, as HumanML3D used


def prepare_amass(
    source: Path,
    folder: Path,
    *,
    body_models: Path,
    captions: Path | None = None,
    window: int = WINDOW,
    mirror: bool = False,
) -> Summary:
    """Convert AMASS's SMPL-H and SMPL-X files with captions to a HumanML3D folder.

    source: a folder of .npz files at any depth; KIT/3/walk_poses.npz is the clip KIT_3_walk_poses. body_models: a
    folder with SMPLH_MALE.npz or .pkl, SMPLX_MALE.npz and so on, or with smplh/ and smplx/ that hold them.
    captions: JSON {name: [captions]} or CSV (name, caption), whose names may contain slashes; None: a .txt beside each
    file.
    """
    files = recordings.find_files(source, ".npz", lambda path: _name(path.with_suffix("").as_posix()))
    table = {_name(name): texts for name, texts in recordings.read_captions(files, captions)[0].items()}
    converter = _Converter(body_models)
    made_from = {"format": "amass", "models": str(body_models.resolve())}
    return recordings.write_recordings(
        folder, source, files, table, converter.look, window=window, mirror=mirror, made_from=made_from
    )


class _Clip(NamedTuple):
    """The checked arrays of an AMASS file."""

    trans: np.ndarray  # (T, 3) metres, Z up
    poses: np.ndarray  # (T, 66 or more) axis-angle vectors, the body's 22 joints first
    betas: np.ndarray  # (10 or more,) shape coefficients
    gender: str
    fps: float
    body: str  # SMPLH or SMPLX


class _Converter:
    """Read standard joints from AMASS files."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.model = lru_cache(maxsize=3)(self._model)
        self.read = lru_cache(maxsize=1)(self._read)  # the windows of a file are read one after the other

    def look(self, path: Path) -> Recording:
        clip = parameters(path)
        self._model_file(path, clip)
        _package()
        return Recording(kinematics.frames_at(len(clip.trans), clip.fps, FPS), partial(self.read, path))

    def _read(self, path: Path) -> np.ndarray:
        """Joints (T, 22, 3) of the body at 20 fps, metres, Y up."""
        clip = parameters(path)
        shape = torch.from_numpy(clip.betas[None, :SHAPE].astype(np.float32))
        rest = self.model(self._model_file(path, clip), clip.gender)(betas=shape).joints[0, :JOINTS].detach().double()
        bones = rest.clone()
        bones[1:] -= rest[list(HUMANML3D.parents[1:])]
        translations = bones.repeat(len(clip.trans), 1, 1)
        translations[:, 0] += torch.from_numpy(clip.trans.astype(np.float64))
        axes = torch.from_numpy(clip.poses[:, : 3 * JOINTS].astype(np.float64)).unflatten(-1, (JOINTS, 3))
        local = kinematics.resample(translations, rotations.from_axis_angle(axes), clip.fps, FPS)
        return turned(kinematics.forward(*local, HUMANML3D.parents)[0].numpy(), "z")

    def _model(self, path: Path, gender: str):
        kind = getattr(_package(), path.name[: len("SMPLH")])
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # smplx prints advice on other models
                return kind(model_path=str(path), ext=path.suffix[1:], gender=gender, use_pca=False, num_betas=SHAPE)
        except ImportError as error:  # the distributed .pkl files hold objects of another package
            raise DataError(f"{path}: {error}. Install that package, or convert the model to .npz.") from error
        except (AttributeError, KeyError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise DataError(
                f"{path}: smplx cannot read it ({error}). Prepare the model as the README of smplx describes."
            ) from error

    def _model_file(self, path: Path, clip: _Clip) -> Path:
        """The file of the body model of a clip's kind and gender."""
        kind, gender = clip.body, clip.gender
        places = ("", f"{kind.lower()}/")
        names = [f"{parent}{kind}_{gender.upper()}.{suffix}" for parent in places for suffix in ("npz", "pkl")]
        found = next((self.models / name for name in names if (self.models / name).is_file()), None)
        if found is None:
            spelled = kind.replace("SMPL", "SMPL-")
            other = " Or download AMASS's SMPL+H files instead." if kind == "SMPLX" else ""
            raise DataError(
                f"{path}: in the layout of {spelled}, and {self.models} has no {spelled} model of gender {gender} "
                f"({', '.join(names)}). Download it from {DOWNLOADS[kind]} and give its folder as --body-models.{other}"
            )
        return found


def _package():
    try:
        import smplx
    except ImportError as error:
        raise DataError(f"AMASS needs the smplx package ({error}). Install it: pip install smplx.") from error
    return smplx


def _name(path: str) -> str:
    return path.replace("/", "_")


def parameters(path: Path) -> _Clip:
    """Read and check an AMASS file."""
    try:
        with open_archive(path) as archive:
            body = "SMPLX" if "mocap_frame_rate" in archive else "SMPLH"
            trans, *poses, betas, gender, rate = (archive[key] for key in (KEYS_X if body == "SMPLX" else KEYS))
            gender, fps = gender.item(), float(rate.item())
    except BROKEN_ARCHIVE as error:
        raise DataError(
            f"{path}: not an SMPL-H file with {', '.join(KEYS)}, nor an SMPL-X file with {', '.join(KEYS_X)} "
            f"({error}). Download it again."
        ) from error
    shapes = f"trans {trans.shape}, poses {' and '.join(str(part.shape) for part in poses)}, betas {betas.shape}"
    fits = trans.ndim == 2 and trans.shape[1] == 3 and len(trans) > 0
    fits &= all(part.ndim == 2 and len(part) == len(trans) for part in poses)
    pose = np.concatenate(poses, axis=1) if fits else trans
    if not fits or pose.shape[1] < 3 * JOINTS or betas.ndim != 1 or len(betas) < SHAPE:
        expected = "(T, 3) and (T, 63)" if body == "SMPLX" else "(T, 156)"
        raise DataError(f"{path}: {shapes}; expected (T, 3), {expected} and (16,). Download it again.")
    for key, array in (("trans", trans), ("poses", pose), ("betas", betas)):
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise DataError(f"{path}: {key} are not finite numbers. Download it again.")
    if not 0 < fps < math.inf:
        key = (KEYS_X if body == "SMPLX" else KEYS)[-1]
        raise DataError(f"{path}: {key} is {fps:g}. Download it again.")
    # Some of AMASS's files hold the gender as bytes.
    gender = gender.decode("ascii", "replace") if isinstance(gender, bytes) else gender
    return _Clip(trans, pose, betas, gender, fps, body)
