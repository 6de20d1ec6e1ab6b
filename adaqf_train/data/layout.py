"""HumanML3D's folder layout: reads its lists and captions, and writes whole folders.

new_joint_vecs/NAME.npy   features (N, 263 | 251), float32
new_joints/NAME.npy       joint positions (N, J, 3), float32
texts/NAME.txt            one caption per line: caption#word/POS word/POS#from#to   (seconds; 0, 0: the whole clip)
Mean.npy, Std.npy         of the training split's features
train.txt, val.txt, test.txt, train_val.txt, all.txt
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from adaclip.files import atomic_file, atomic_folder, naming, read_bytes, write_json
from adaqf_train.config import digest
from adaqf_train.errors import DataError
from adaqf_train.motion import features as motion_features

VECTORS, JOINTS, TEXTS, PARAMETERS = "new_joint_vecs", "new_joints", "texts", "parameters"
PARTS = (VECTORS, JOINTS, TEXTS, PARAMETERS)
ORIGIN = "origin.json"
LONGEST_CAPTION = 10_000  # characters; encoders read 77 tokens
MOST_LINES = 64 << 20  # bytes of a list
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Caption:
    """A caption and the segment that it describes, in seconds; None: the whole clip."""

    text: str
    segment: tuple[float, float] | None = None


@dataclass(frozen=True)
class CaptionedMotion:
    """A clip to write to a folder."""

    name: str  # of its files
    joints: np.ndarray | Callable[[], np.ndarray]
    """(T, J, 3) in the skeleton's unit and frame rate, Y up; or a function that reads them."""
    captions: tuple[Caption, ...]
    split: str
    parameters: Mapping[str, object] = field(default_factory=dict)  # written to parameters/NAME.json when not empty
    source: Path | None = None  # the original file, for messages and to detect changes

    def read(self) -> np.ndarray:
        """The joints."""
        return self.joints() if callable(self.joints) else self.joints


def parse_lines(content: bytes, where: str) -> list[Caption]:
    """Parse the captions in the content of a text file; `where` names it in errors."""
    captions = []
    for number, line in enumerate(_decoded(content, where).splitlines(), start=1):
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
    """Parse one line, caption#tokens#from#to; ValueError says what is malformed."""
    parts = line.split("#")
    if len(parts) != 4:
        raise ValueError(f"expected caption#tokens#from#to, found {len(parts) - 1} '#'.")
    try:
        start, stop = (0.0 if math.isnan(float(part)) else float(part) for part in parts[2:])
    except ValueError:
        raise ValueError(f"from and to must be seconds, found {parts[2:]}.") from None
    if len(parts[0]) > LONGEST_CAPTION:
        raise ValueError(f"the caption has {len(parts[0]):,} characters, more than {LONGEST_CAPTION:,}. Shorten it.")
    if not parts[0].strip():
        raise ValueError("the caption is empty. Remove the line.")
    if not 0 <= start <= stop < math.inf:
        raise ValueError(f"the segment from {start} s to {stop} s is not an interval.")
    return Caption(parts[0].strip(), (start, stop) if (start, stop) != (0.0, 0.0) else None)


def text_lines(path: Path) -> list[str]:
    """The stripped lines of a UTF-8 file that are not blank."""
    content = read_bytes(path, MOST_LINES, DataError)
    return [line.strip() for line in _decoded(content, path).splitlines() if line.strip()]


def _decoded(content: bytes, where: object) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        # The official loaders decode with the platform's codec, so the same file reads differently on two machines.
        byte = f"byte {error.start} is 0x{content[error.start]:02x}"
        raise DataError(f"{where}: not UTF-8 ({byte}). Save the file as UTF-8.") from error


def read_names(path: Path) -> list[str]:
    """Read the clip names of a split list, one per line; DataError if it is empty or not text."""
    names = text_lines(path)
    if not names:
        raise DataError(f"{path}: the {path.stem} split is empty. Write one clip name per line.")
    return names


def check_split_lists(folder: Path) -> None:
    """Raise DataError for an empty split list, the sign of a data set that was not written completely."""
    for split in SPLITS:
        if (folder / f"{split}.txt").is_file():
            read_names(folder / f"{split}.txt")


def caption_line(caption: Caption) -> str:
    """A caption in the official line format.

    Part-of-speech tags are OTHER: the official loaders require the field, and nothing here reads it.
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
    """Write clips as a HumanML3D folder, whole or not at all; return the number of clips per split.

    `features.encode` retargets the joints, puts them on the floor and turns them. origin: how the clips were made, kept
    as origin.json. made_from: everything that determines the clips besides their source files; after an interruption,
    the next attempt with equal values continues where the last one stopped. DataError for a clip that is not finite or
    too short, a name that occurs twice or cannot name a file, and an empty split.
    """
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    taken: set[str] = set()
    statistics = None
    with _staging(folder, made_from) as staging:
        for part in PARTS:
            (staging / part).mkdir(exist_ok=True)
        for clip in clips:
            _check(clip)
            if clip.name in taken:
                raise DataError(f"{clip.source or clip.name}: two clips are named {clip.name}. Rename one.")
            taken.add(clip.name)
            vectors = _write_clip(staging, clip)
            names[clip.split].append(clip.name)
            if clip.split == "train":
                statistics = statistics or RunningStatistics(vectors.shape[1])
                statistics.add(vectors)
        if empty := [split for split in SPLITS if not names[split]]:
            raise DataError(f"{folder}: no clip is in split {', '.join(empty)}. Add clips or give split lists.")
        for path in staging.glob("*/*"):
            if path.stem not in taken:  # left by an interrupted attempt with other clips
                path.unlink()
        return complete(staging, names, statistics, origin)


def complete(
    staging: Path, names: Mapping[str, Sequence[str]], statistics: RunningStatistics, origin: object = None
) -> dict[str, int]:
    """Write statistics, split lists and origin to a folder of clips; return the number of clips per split."""
    mean, std = statistics.result()
    np.save(staging / "Mean.npy", mean)
    np.save(staging / "Std.npy", std)
    lists = {split: sorted(names[split]) for split in SPLITS}
    lists["train_val"] = sorted([*names["train"], *names["val"]])
    lists["all"] = sorted(name for split in SPLITS for name in names[split])
    for split, members in lists.items():
        (staging / f"{split}.txt").write_text("".join(f"{name}\n" for name in members), encoding="utf-8")
    if origin is not None:
        write_json(staging / ORIGIN, origin)
    for part in (JOINTS, PARAMETERS):
        if not any((staging / part).iterdir()):
            (staging / part).rmdir()
    return {split: len(names[split]) for split in SPLITS}


class RunningStatistics:
    """Mean and standard deviation of features, accumulated clip by clip in float64."""

    def __init__(self, features: int) -> None:
        self.count = 0
        self.sum = np.zeros(features)
        self.squares = np.zeros(features)

    def add(self, vectors: np.ndarray) -> None:
        """Add the frames of a clip (N, D)."""
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
        # The deviation of a constant group (no foot is ever lifted) must not be zero.
        return mean.astype(np.float32), np.maximum(std, 1e-4).astype(np.float32)


@contextmanager
def _staging(folder: Path, made_from: Mapping[str, object] | None) -> Iterator[Path]:
    """A locked temporary folder to fill, that of an interrupted attempt if there is one."""
    if made_from is None:
        with atomic_folder(folder) as staging:
            yield staging
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        with naming(folder):
            lock.acquire(timeout=0)
    except Timeout:
        raise DataError(f"{folder}: another process is writing it. Wait, or give another folder.") from None
    try:
        with atomic_folder(folder, resume=digest(dict(made_from))) as staging:
            yield staging
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _write_clip(staging: Path, clip: CaptionedMotion) -> np.ndarray:
    """Write the files of a clip and return its features (N, D); they come last, so where they are, all files are."""
    lines = "".join(caption_line(caption) + "\n" for caption in clip.captions)
    (staging / TEXTS / f"{clip.name}.txt").write_text(lines, encoding="utf-8")
    if clip.parameters:
        text = json.dumps(clip.parameters, indent=2) + "\n"
        (staging / PARAMETERS / f"{clip.name}.json").write_text(text, encoding="utf-8")
    path = staging / VECTORS / f"{clip.name}.npy"
    if path.is_file() and (clip.source is None or path.stat().st_mtime_ns > clip.source.stat().st_mtime_ns):
        return np.load(path)
    vectors = _encode(clip)
    np.save(staging / JOINTS / f"{clip.name}.npy", motion_features.decode(vectors))
    with atomic_file(path, clean=False) as whole, whole.open("wb") as file:
        np.save(file, vectors)
    return vectors


def _check(clip: CaptionedMotion) -> None:
    """Raise DataError for a name that cannot name a file, and for empty captions."""
    name = clip.name
    if not name or name != name.strip() or name.startswith(".") or any(c in name for c in "/\\\n\r\0"):
        raise DataError(f"{clip.source or name!r}: {name!r} cannot name a file. Rename the clip.")
    if not clip.captions or not all(" ".join(caption.text.replace("#", " ").split()) for caption in clip.captions):
        raise DataError(f"{clip.source or name}: {name} has an empty caption. Fill it in, or remove it.")


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
        raise DataError(f"{where}: its features are not finite (two joined joints coincide). Repair or remove it.")
    return vectors
