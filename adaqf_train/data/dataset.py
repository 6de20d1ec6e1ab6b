"""Read and check a split of a folder in HumanML3D's layout."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adaclip.files import read_json
from adaqf_train.config import DataConfig
from adaqf_train.data import cache
from adaqf_train.data.clips import Clip, ClipFiles, load_statistics
from adaqf_train.data.layout import PARAMETERS, read_names
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import KIT, Skeleton, skeleton_of_width

# Clips that are NaN in the official release; upstream skips them too.
OFFICIAL_NAN_CLIPS = {"007975", "M007975"}


@dataclass(frozen=True)
class Item:
    """One sample of the protocol: a clip, or the segment of a clip that a caption describes."""

    key: str  # clip name; for a segment also #number:start-stop in frames
    vectors: np.ndarray  # (N, D) float32, read-only, not normalised
    captions: tuple[str, ...]
    digest: str  # of the whole clip's features

    @property
    def clip(self) -> str:
        """The clip's name."""
        return self.key.partition("#")[0]


class MotionDataset:
    """One split of a HumanML3D-layout folder, with its motions in a memory map (`cache`) where one can be written.

    The captions of the whole clip make one item, and each captioned segment makes another, cut to its seconds (T2M's
    `Text2MotionDatasetV2`).

    Args:
        folder: The data folder.
        split: Name of the split list, such as "train".
        config: Clips and segments outside [min_frames, max_frames) are omitted; with `samples`, the training split has
            that many clips.

    Attributes:
        items: The samples.
        mean: Mean (D,) of the features, float32.
        std: Their group deviation (D,), float32.
        left_out: Number of clips and segments that the length filter omits.

    Raises:
        DataError: A file is missing or cannot be used; the message names the file and the remedy.
    """

    def __init__(self, folder: str | Path, split: str, config: DataConfig | None = None) -> None:
        self.folder, self.split, self.config = Path(folder), split, config or DataConfig()
        self.mean, self.std = self._statistics()
        self.skeleton: Skeleton = skeleton_of_width(len(self.mean))
        files = ClipFiles(self.folder)
        names = self._names(files)
        self._cached = cache.load(files, self.features)
        if self._cached is None:
            self._check_texts(files)
            self._check_listed(files, names)
            self._cached = cache.build(files, self.features, names)
        self.left_out = 0
        self.items: list[Item] = [item for name in names for item in self._items(name, self._clip(files, name))]
        if not self.items:
            raise DataError(
                f"{self.folder / f'{split}.txt'}: none of its {len(names)} clips has {self.config.min_frames} to "
                f"{self.config.max_frames - 1} frames. Change data.min_frames or data.max_frames."
            )
        if split == "train" and self.config.samples is not None:
            self.items = self._chosen(self.config.samples, self.config.samples_seed)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def fps(self) -> float:
        """Frames per second of the motions."""
        return self.skeleton.fps

    @property
    def features(self) -> int:
        """Width D of the feature vectors."""
        return len(self.mean)

    def normalise(self, vectors: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Normalise features (..., D) to zero mean and unit group deviation, in place of `out` if it is given."""
        out = np.subtract(vectors, self.mean, out=out)
        return np.divide(out, self.std, out=out)

    def parameters(self, item: Item) -> list[dict] | None:
        """The actions of a procedural clip, as it was generated; None for other clips."""
        path = self.folder / PARAMETERS / f"{item.clip}.json"
        return read_json(path).get("actions") if path.is_file() else None

    def captions(self) -> list[str]:
        """All captions of the split, in item order."""
        return [caption for item in self.items for caption in item.captions]

    def fingerprint(self) -> str:
        """A short hash of the split: features and captions of every item, and the statistics."""
        hasher = hashlib.sha256(self.mean.tobytes() + self.std.tobytes())
        for item in self.items:
            # Key and digest identify the frames without reading them.
            hasher.update("\n".join((item.key, item.digest, *item.captions, "")).encode())
        return hasher.hexdigest()[:16]

    def __getstate__(self) -> dict:
        """The state for processes that do not fork: items are rows of the map, which they open again."""
        if self._cached is None:
            return self.__dict__
        items = [replace(item, vectors=self._cached.span(item.vectors) or item.vectors) for item in self.items]
        return self.__dict__ | {"items": items}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        for row, item in enumerate(self.items):
            if isinstance(item.vectors, tuple):
                self.items[row] = replace(item, vectors=self._cached.rows[slice(*item.vectors)])

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.folder.is_dir():
            raise DataError(
                f"{self.folder}: no such folder. Give a HumanML3D-layout folder, or make one: adaqf prepare."
            )
        loaded = [load_statistics(self.folder / name).astype(np.float32) for name in ("Mean.npy", "Std.npy")]
        if loaded[0].shape != loaded[1].shape:
            raise DataError(f"{self.folder}: Mean.npy and Std.npy differ in width. Compute both again: adaqf prepare.")
        return loaded[0], loaded[1]

    def _check_texts(self, files: ClipFiles) -> None:
        """Raise DataError for captions without a motion, which was lost, whether or not a split lists the clip."""
        if self.skeleton is KIT:
            return  # see `_names`
        for name in sorted(files.captioned - files.motions.keys() - OFFICIAL_NAN_CLIPS):
            raise DataError(
                f"{files.text_place(name)}: captions without a motion. Restore {files.motion_path(name)}, or delete "
                "the captions and remove the name from the split lists."
            )

    def _check_listed(self, files: ClipFiles, names: Sequence[str]) -> None:
        for name in names:
            for place, there in ((files.motion_path, files.motions), (files.text_place, files.captioned)):
                if name not in there:
                    raise DataError(
                        f"{place(name)}: missing, though {self.split}.txt lists {name}. Restore it or edit the list."
                    )

    def _names(self, files: ClipFiles) -> list[str]:
        """The listed clips without those that are NaN, or, in KIT-ML's release, have captions but no motion.

        Upstream skips the latter silently ("some motion may not exist in KIT dataset"); HumanML3D has no such names.
        """
        path = self.folder / f"{self.split}.txt"
        if not path.is_file():
            raise DataError(f"{path}: the list of the {self.split} split is missing. Write one clip name per line.")
        names = read_names(path)
        if known := OFFICIAL_NAN_CLIPS.intersection(names):
            warnings.warn(f"{path}: skipping {', '.join(sorted(known))}, NaN in the official release.", stacklevel=3)
        names = [name for name in dict.fromkeys(names) if name not in known]
        lost = [name for name in names if name not in files.motions] if self.skeleton is KIT else []
        if not lost or len(lost) == len(names):
            return names
        named = f"{', '.join(lost[:3])}{' …' if len(lost) > 3 else ''}"
        warnings.warn(
            f"{path}: skipping {len(lost)} clips without a motion ({named}), as in KIT-ML's release. Check the other "
            "clips with: adaqf doctor.",
            stacklevel=3,
        )
        return [name for name in names if name in files.motions]

    def _clip(self, files: ClipFiles, name: str) -> Clip:
        if self._cached is not None and (cached := self._cached.get(name)) is not None:
            return cached
        self._check_listed(files, [name])
        return files.read(name, self.features)

    def _items(self, name: str, clip: Clip) -> Iterator[Item]:
        if not self._usable(clip.vectors):
            return
        whole: list[str] = []
        for number, caption in enumerate(clip.captions):
            if caption.segment is None:
                whole.append(caption.text)
                continue
            start, stop = (int(seconds * self.fps) for seconds in caption.segment)
            part = clip.vectors[start:stop]
            if self._usable(part):
                yield Item(f"{name}#{number}:{start}-{stop}", part, (caption.text,), clip.digest)
        if whole:
            yield Item(name, clip.vectors, tuple(whole), clip.digest)

    def _chosen(self, samples: int, seed: int) -> list[Item]:
        """The items of a number of clips, which are among those of any larger number."""
        # By the name alone, so that adding clips keeps the choice.
        draws = {
            item.clip: hashlib.blake2b(f"{seed} {item.clip}".encode(), digest_size=8).digest() for item in self.items
        }
        clips = sorted(draws, key=draws.__getitem__)
        if samples > len(clips):
            raise DataError(
                f"{self.folder / f'{self.split}.txt'}: {len(clips)} clips can be used, fewer than data.samples "
                f"({samples}). Lower it, or set it to none to use all."
            )
        chosen = set(clips[:samples])
        return [item for item in self.items if item.clip in chosen]

    def _usable(self, vectors: np.ndarray) -> bool:
        usable = self.config.min_frames <= len(vectors) < self.config.max_frames
        self.left_out += not usable
        return usable
