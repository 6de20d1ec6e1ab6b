"""Reads a folder in HumanML3D's layout, checks it, and gives normalised clips with their captions."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaqf_train.config import DataConfig
from adaqf_train.data.layout import TEXTS, VECTORS, DataError, parse_captions, read_names
from adaqf_train.motion.skeleton import Skeleton, skeleton_of_width

# Clips that are NaN in the official release; upstream leaves them out too.
OFFICIAL_NAN_CLIPS = {"007975", "M007975"}
# What numpy raises on files that are no arrays; MemoryError where a damaged header claims terabytes.
BROKEN_ARRAY = (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError, OverflowError)


@dataclass(frozen=True)
class Item:
    """What the protocol counts as one sample: a clip, or the part of it that some captions describe."""

    key: str  # clip name, with #start-stop in frames for a part
    vectors: np.ndarray  # (N, D) float32, not normalised
    captions: tuple[str, ...]


class MotionDataset:
    """One split of a HumanML3D-layout folder, held in memory.

    Captions of the whole clip make one item; each captioned segment makes one of its own, cut to its seconds
    (T2M's `Text2MotionDatasetV2`). Items outside [min_frames, max_frames) are left out. Raises DataError with
    the file and the remedy for anything unusable.
    """

    def __init__(self, folder: str | Path, split: str, config: DataConfig | None = None) -> None:
        self.folder, self.split, self.config = Path(folder), split, config or DataConfig()
        self.mean, self.std = self._statistics()
        self.skeleton: Skeleton = skeleton_of_width(len(self.mean))
        self._check_texts()
        names = self._names()
        self.left_out = 0  # clips and segments whose length is outside the filter
        self.items: list[Item] = [item for name in names for item in self._items(name)]
        if not self.items:
            raise DataError(
                f"{self.folder / f'{split}.txt'}: none of its {len(names)} clips has {self.config.min_frames} to "
                f"{self.config.max_frames - 1} frames. Change data.min_frames or data.max_frames."
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def fps(self) -> float:
        return self.skeleton.fps

    @property
    def features(self) -> int:
        """Width D of the feature vectors."""
        return len(self.mean)

    def normalise(self, vectors: np.ndarray) -> np.ndarray:
        """(..., D) features to zero mean and unit group deviation."""
        return (vectors - self.mean) / self.std

    def captions(self) -> list[str]:
        """All captions of the split, in item order."""
        return [caption for item in self.items for caption in item.captions]

    def fingerprint(self) -> str:
        """A short hash of what this split holds: features and captions of every item, and the statistics."""
        hasher = hashlib.sha256(self.mean.tobytes() + self.std.tobytes())
        for item in self.items:
            hasher.update(item.key.encode())
            hasher.update("\n".join(item.captions).encode())
            hasher.update(np.ascontiguousarray(item.vectors).tobytes())
        return hasher.hexdigest()[:16]

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.folder.is_dir():
            raise DataError(
                f"{self.folder}: no such folder. Give a HumanML3D-layout folder, or make one: run.py prepare."
            )
        loaded = []
        for name in ("Mean.npy", "Std.npy"):
            path = self.folder / name
            array = load_array(path)
            try:
                skeleton_of_width(array.shape[0] if array.ndim == 1 else 0)
            except ValueError as error:
                raise DataError(f"{path}: shape {array.shape}. {error}") from error
            if not np.isfinite(array).all() or (name == "Std.npy" and (array <= 0).any()):
                raise DataError(f"{path}: holds values that cannot normalise. Compute it again: run.py prepare.")
            loaded.append(array.astype(np.float32))
        if loaded[0].shape != loaded[1].shape:
            raise DataError(f"{self.folder}: Mean.npy and Std.npy differ in width. Compute both again: run.py prepare.")
        return loaded[0], loaded[1]

    def _check_texts(self) -> None:
        """Captions whose motion is missing point to a file that was lost, whether or not a split lists them."""
        motions = {path.stem for path in (self.folder / VECTORS).glob("*.npy")}
        for path in sorted((self.folder / TEXTS).glob("*.txt")):
            if path.stem not in motions and path.stem not in OFFICIAL_NAN_CLIPS:
                raise DataError(
                    f"{path}: captions without a motion. Restore {self.folder / VECTORS / path.stem}.npy, or delete "
                    "the captions and take the name out of the split lists."
                )

    def _names(self) -> list[str]:
        path = self.folder / f"{self.split}.txt"
        if not path.is_file():
            raise DataError(f"{path}: the list of the {self.split} split is missing. Write one clip name a line.")
        names = read_names(path)
        known = OFFICIAL_NAN_CLIPS.intersection(names)
        if known:
            warnings.warn(f"{path}: skipping {', '.join(sorted(known))}, NaN in the official release.", stacklevel=3)
        return [name for name in dict.fromkeys(names) if name not in known]

    def _items(self, name: str) -> Iterator[Item]:
        motion, text = self.folder / VECTORS / f"{name}.npy", self.folder / TEXTS / f"{name}.txt"
        for path in (motion, text):
            if not path.is_file():
                raise DataError(f"{path}: missing, though {self.split}.txt lists {name}. Restore it or edit the list.")
        vectors = self._vectors(motion)
        whole: list[str] = []
        for number, caption in enumerate(parse_captions(text)):
            if caption.segment is None:
                whole.append(caption.text)
                continue
            start, stop = (int(seconds * self.fps) for seconds in caption.segment)
            part = vectors[start:stop]
            if self._usable(part):
                yield Item(f"{name}#{number}:{start}-{stop}", part, (caption.text,))
        if whole and self._usable(vectors):
            yield Item(name, vectors, tuple(whole))

    def _vectors(self, path: Path) -> np.ndarray:
        vectors = load_array(path)
        if vectors.ndim == 3 and vectors.shape[-1] == 3:
            raise DataError(
                f"{path}: joint positions {vectors.shape}. Convert them with: run.py prepare joints SRC OUT."
            )
        if vectors.ndim != 2 or vectors.shape[1] != self.features:
            width = f"{vectors.shape[1]} features per frame" if vectors.ndim == 2 else f"shape {vectors.shape}"
            raise DataError(
                f"{path}: {width}, expected {self.features}. "
                "Raw joints? Convert them with: run.py prepare joints SRC OUT."
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then, and refused
            vectors = vectors.astype(np.float32)
        if not np.isfinite(vectors).all():
            frame = int(np.argwhere(~np.isfinite(vectors))[0][0])
            raise DataError(
                f"{path}: NaN or infinite at frame {frame}. Repair it or take {path.stem} out of the split lists."
            )
        return vectors

    def _usable(self, vectors: np.ndarray) -> bool:
        usable = self.config.min_frames <= len(vectors) < self.config.max_frames
        self.left_out += not usable
        return usable


def load_array(path: Path) -> np.ndarray:
    """A .npy file of floats; DataError when it is missing, pickled, truncated or of another type."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: missing. Is {path.parent} a HumanML3D-layout folder?") from None
    except BROKEN_ARRAY as error:
        raise DataError(f"{path}: not a readable .npy file ({error}). Write it again with numpy.save.") from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{path}: dtype {getattr(array, 'dtype', 'archive')}, expected floats. Save it with .astype('float32')."
        )
    return array
