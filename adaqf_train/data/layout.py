"""HumanML3D's folder layout: where its files are, how its caption lines read, how a folder is written.

new_joint_vecs/NAME.npy   features (N, 263 | 251), float32
new_joints/NAME.npy       joint positions (N, J, 3), float32
texts/NAME.txt            one caption a line: caption#word/POS word/POS#from#to   (seconds; 0, 0: the whole clip)
Mean.npy, Std.npy         of the training split's features
train.txt, val.txt, test.txt, train_val.txt, all.txt
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from adaclip.files import atomic_file, atomic_folder, resumable_folder, write_json
from adaqf_train.config import digest
from adaqf_train.errors import DataError
from adaqf_train.motion import features as motion_features

VECTORS, JOINTS, TEXTS, PARAMETERS = "new_joint_vecs", "new_joints", "texts", "parameters"
ORIGIN = "origin.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Caption:
    """A caption and the part of the clip it describes, in seconds; None: the whole clip."""

    text: str
    segment: tuple[float, float] | None = None


@dataclass(frozen=True)
class CaptionedMotion:
    """A clip on its way into a folder."""

    name: str  # of its files
    # (T, J, 3), the skeleton's own units, Y up, at its frame rate; or what reads them when they are needed
    joints: np.ndarray | Callable[[], np.ndarray]
    captions: tuple[Caption, ...]
    split: str
    parameters: Mapping[str, object] = field(default_factory=dict)  # written to parameters/NAME.json when not empty
    source: Path | None = None  # the file it came from, for messages and to notice that it changed

    def read(self) -> np.ndarray:
        """The joints."""
        return self.joints() if callable(self.joints) else self.joints


def parse_captions(path: Path) -> list[Caption]:
    """The captions of a clip's text file. DataError names the line that is malformed."""
    return parse_lines(path.read_bytes(), str(path))


def parse_lines(content: bytes, where: str) -> list[Caption]:
    """The captions in a text file's content. where: names the file in messages."""
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        # The official loaders decode with the platform's codec, so the same file reads differently on two machines.
        raise DataError(
            f"{where}: not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}). Save the file as UTF-8."
        ) from error
    captions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            captions.append(parse_caption(line))
        except ValueError as error:
            raise DataError(f"{where}, line {number}: {error}") from None
    if not captions:
        raise DataError(f"{where}: no captions. Add at least one line, or remove the clip from the split lists.")
    return captions


def parse_caption(line: str) -> Caption:
    """One line of a text file, caption#tokens#from#to. ValueError says what is malformed."""
    parts = line.split("#")
    if len(parts) != 4:
        raise ValueError(f"expected caption#tokens#from#to, found {len(parts) - 1} '#'.")
    try:
        start, stop = (0.0 if math.isnan(float(part)) else float(part) for part in parts[2:])
    except ValueError:
        raise ValueError(f"from and to must be seconds, found {parts[2:]}.") from None
    if not parts[0].strip():
        raise ValueError("the caption is empty. Remove the line.")
    if not 0 <= start <= stop < math.inf:
        raise ValueError(f"the segment from {start} s to {stop} s is no interval.")
    return Caption(parts[0].strip(), (start, stop) if (start, stop) != (0.0, 0.0) else None)


def read_names(path: Path) -> list[str]:
    """The clip names of a split list, one a line. DataError when it is empty or not text."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    names = [name for name in names if name]
    if not names:
        raise DataError(f"{path}: the {path.stem} split is empty. Write one clip name a line.")
    return names


def check_split_lists(folder: Path) -> None:
    """DataError for a split list that is there and empty: a sign of a data set that was not written to its end."""
    for split in SPLITS:
        if (folder / f"{split}.txt").is_file():
            read_names(folder / f"{split}.txt")


def caption_line(caption: Caption) -> str:
    """A caption in the official line format.

    Part-of-speech tags are OTHER: the official loaders need the field, nothing here reads it.
    """
    text = " ".join(caption.text.replace("#", " ").split())
    words = "".join(c if c.isalnum() or c.isspace() else " " for c in text.lower()).split()
    start, stop = caption.segment or (0.0, 0.0)
    return f"{text}#{' '.join(f'{word}/OTHER' for word in words)}#{start}#{stop}"


def write_folder(
    folder: Path,
    clips: Iterable[CaptionedMotion],
    *,
    origin: Mapping[str, object] | None = None,
    made_from: Mapping[str, object] | None = None,
) -> dict[str, int]:
    """Writes clips as a HumanML3D folder, whole or not at all, and returns the number of clips per split.

    origin: how the clips came about, kept as origin.json. made_from: all that the clips depend on beside their source
    files; when an attempt was interrupted, the next one with the same goes on with what that one had written. Joints
    are retargeted, put on the floor and turned by `features.encode`. Raises DataError for a clip that is not finite or
    too short, for a name that comes twice or cannot be a file's, and for a split that stays empty.
    """
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    taken: set[str] = set()
    statistics = None
    with _staging(folder, made_from) as staging:
        for part in (VECTORS, JOINTS, TEXTS, PARAMETERS):
            (staging / part).mkdir(exist_ok=True)
        for clip in clips:
            _check_name(clip)
            if clip.name in taken:
                raise DataError(f"{clip.source or clip.name}: two clips have the name {clip.name}. Rename one.")
            taken.add(clip.name)
            vectors = _write_clip(staging, clip)
            names[clip.split].append(clip.name)
            if clip.split == "train":
                statistics = statistics or RunningStatistics(vectors.shape[1])
                statistics.add(vectors)
        empty = [split for split in SPLITS if not names[split]]
        if empty:
            raise DataError(f"{folder}: no clip is in split {', '.join(empty)}. Add clips or give split lists.")
        mean, std = statistics.result()
        np.save(staging / "Mean.npy", mean)
        np.save(staging / "Std.npy", std)
        write_splits(staging, names)
        if origin is not None:
            write_json(staging / ORIGIN, origin)
        for part in (VECTORS, JOINTS, TEXTS, PARAMETERS):  # of an earlier attempt, when the clip was there
            for path in (staging / part).iterdir():
                if path.stem not in taken:
                    path.unlink()
        if not any((staging / PARAMETERS).iterdir()):
            (staging / PARAMETERS).rmdir()
    return {split: len(names[split]) for split in SPLITS}


class RunningStatistics:
    """Mean and standard deviation of features, computed clip by clip in float64."""

    def __init__(self, features: int) -> None:
        self.count = 0
        self.sum = np.zeros(features)
        self.squares = np.zeros(features)

    def add(self, vectors: np.ndarray) -> None:
        """Counts vectors (N, D) in."""
        vectors = vectors.astype(np.float64)
        self.count += len(vectors)
        self.sum += vectors.sum(axis=0)
        self.squares += np.square(vectors).sum(axis=0)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and Std (D,), float32; Std is averaged within each feature group (`cal_mean_variance` upstream)."""
        mean = self.sum / self.count
        std = np.sqrt(np.maximum(self.squares / self.count - np.square(mean), 0))
        for where in motion_features.slices_of_width(len(mean)).groups().values():
            std[where] = std[where].mean()
        # A group that never changes (no foot ever lifted) must not divide by zero.
        return mean.astype(np.float32), np.maximum(std, 1e-4).astype(np.float32)


@contextmanager
def _staging(folder: Path, made_from: Mapping[str, object] | None) -> Iterator[Path]:
    """A folder to fill: of an interrupted attempt if there is one, held against other writers."""
    if made_from is None:
        with atomic_folder(folder) as staging:
            yield staging
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{folder}: another process is writing it. Wait for it, or give another folder.") from None
    try:
        with resumable_folder(folder, digest(dict(made_from))) as staging:
            yield staging
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _write_clip(staging: Path, clip: CaptionedMotion) -> np.ndarray:
    """Writes a clip's files, the features last: where they are, the clip is whole. Returns the features (N, D)."""
    lines = "".join(caption_line(caption) + "\n" for caption in clip.captions)
    (staging / TEXTS / f"{clip.name}.txt").write_text(lines, encoding="utf-8")
    if clip.parameters:
        write_json(staging / PARAMETERS / f"{clip.name}.json", clip.parameters)
    path = staging / VECTORS / f"{clip.name}.npy"
    if path.is_file() and (clip.source is None or path.stat().st_mtime_ns > clip.source.stat().st_mtime_ns):
        return np.load(path)
    vectors = _encode(clip)
    np.save(staging / JOINTS / f"{clip.name}.npy", motion_features.decode(vectors))
    with atomic_file(path) as whole, whole.open("wb") as file:
        np.save(file, vectors)
    return vectors


def _check_name(clip: CaptionedMotion) -> None:
    name = clip.name
    if not name or name != name.strip() or name.startswith(".") or any(c in name for c in "/\\\n\r\0"):
        raise DataError(f"{clip.source or name!r}: {name!r} cannot be a file's name. Rename the clip.")
    if not clip.captions or not all(" ".join(caption.text.replace("#", " ").split()) for caption in clip.captions):
        raise DataError(f"{clip.source or name}: {name} has an empty caption. Write what happens, or remove it.")


def _encode(clip: CaptionedMotion) -> np.ndarray:
    where = f"{clip.source}: {clip.name}" if clip.source and clip.source.stem != clip.name else clip.source or clip.name
    joints = clip.read()
    if not np.isfinite(joints).all():
        frame = int(np.argwhere(~np.isfinite(joints))[0][0])
        raise DataError(f"{where}: joint positions are NaN or infinite at frame {frame}. Repair or remove it.")
    try:
        vectors = motion_features.encode(np.asarray(joints, dtype=np.float64)).astype(np.float32)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if not np.isfinite(vectors).all():
        raise DataError(f"{where}: its features are not finite; two joined joints coincide. Repair or remove it.")
    return vectors


def write_splits(folder: Path, names: Mapping[str, Sequence[str]]) -> None:
    """Writes the split lists, and train_val.txt and all.txt. names: of the clips of each split."""
    lists = {split: sorted(names[split]) for split in SPLITS}
    lists["train_val"] = sorted([*names["train"], *names["val"]])
    lists["all"] = sorted(name for split in SPLITS for name in names[split])
    for split, members in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in members), encoding="utf-8")
