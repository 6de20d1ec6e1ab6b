"""The files in which programs leave motions: arrays with their names and captions, as they are stored.

A path is one of:

* a folder of NAME.npy files at any depth (MoMask, T2M-GPT, MLD, StableMoFusion, MARDM and others), or of NAME.npz files
  with `motion` and `caption` (SALAD);
* MDM's results.npy, or its folder;
* a pack, FILE.npz with positions, scale, offsets and names, or a folder of packs;
* a data set in HumanML3D's layout, of which the test split is read;
* a folder of BVH files;
* a single file of one clip or of a batch.

Captions stand in the file, beside it (NAME.txt, captions.json), or in its name (MARDM).
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from adaclip.files import read_json
from adaqf_train.config import DataConfig
from adaqf_train.data.archives import BROKEN_ARCHIVE, open_archive
from adaqf_train.data.clips import load_array
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.data.layout import VECTORS
from adaqf_train.data.mdm_results import read_results
from adaqf_train.data.prepare.captions import caption_table
from adaqf_train.data.prepare.joints import read_pack
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import KIT

CAPTIONS, RESULTS = "captions.json", "results.npy"
# Of two files of one motion, the other one is scored: MoMask's foot IK, and copies of real motions.
TWINS = ("_ik", "_gt", "_ref")
STATISTICS = {"mean", "std"}  # names of files beside motions
IN_NAME = re.compile(r"^caption:(.*?)_sample\d+_repeat\d+_len\d+$", re.DOTALL)  # MARDM
NUMBER = re.compile(r"^sample(\d+)_|(?:^|_)(\d+)$")  # MoMask, StableMoFusion and others number their motions
ARRAYS = ("motion", "joints", "positions", "pose")  # of an .npz file, in this order
GIVE = "Give a folder of NAME.npy motions, MDM's results.npy, or a pack."


@dataclass(frozen=True)
class Stored:
    """An array as it is stored; it may hold several clips."""

    where: str  # for messages
    name: str
    caption: str | None
    array: np.ndarray | None = None  # None: a BVH file
    fps: float | None = None  # None: not stated
    path: Path | None = None  # of a BVH file


def stored_in(path: Path, notes: list[str]) -> Iterator[Stored]:
    """Yield the arrays of a path; append to `notes` what is left out. DataError names a file that cannot be read."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder. {GIVE}")
    if (path / VECTORS).is_dir():
        yield from _dataset(path, notes)
        return
    if (path / RESULTS).is_file():  # the folder that MDM's sampling writes
        path = path / RESULTS
    folder = path if path.is_dir() else path.parent
    files, table = [path] if path.is_file() else _files(folder, notes), _table(folder / CAPTIONS)
    for file in files:
        for found in _file(file):
            inside = file.relative_to(folder).with_suffix("").as_posix()
            caption = found.caption or prompt_beside(file) or table.get(found.name) or table.get(inside)
            yield replace(found, caption=caption)


def _files(folder: Path, notes: list[str]) -> list[Path]:
    """The files of motions in a folder, at any depth, without statistics and second forms of the same motions."""
    files = [file for ending in ("npy", "npz") for file in sorted(folder.rglob(f"*.{ending}"))]
    files = files or sorted(folder.rglob("*.bvh"))  # programs write these beside the joints
    files = [file for file in files if file.is_file() and file.stem.lower() not in STATISTICS]
    if not files:
        raise DataError(f"{folder}: no .npy, .npz or .bvh files, at any depth. {GIVE}")
    names = {file.with_suffix("") for file in files}
    twins = {file for file in files if any(_twin(file, ending) in names for ending in TWINS)}
    if twins:
        notes.append(f"{len(twins)} files such as {min(twins).name} left out: the same motions lie beside them")
    return [file for file in files if file not in twins]


def recaptioned(names: Sequence[str], table: Path) -> list[str]:
    """The caption of each motion in a table: JSON or CSV by name, or TXT by the number in the name, else by order.

    Numbers in names count lines from 0; if they do not, names are in the order of their numbers, and without numbers in
    the given order. Lines of TXT may end in MoMask's "#frames". DataError if a motion has no caption.
    """
    if table.suffix.lower() != ".txt":
        known = _table(table, required=True)
        plain = {name: re.sub(r"_pred$", "", name) for name in names}  # T2M-GPT
        missing = [name for name in names if not (known.get(name) or known.get(plain[name]))]
        if missing:
            raise DataError(
                f"{table}: no caption for {len(missing)} of {len(names)} motions, such as {missing[0]!r}. Add them."
            )
        return [known.get(name) or known[plain[name]] for name in names]
    try:
        lines = table.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except FileNotFoundError:
        raise DataError(f"{table}: missing. It holds a caption a line.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    lines = [re.sub(r"#\d+$", "", line.strip()).strip() for line in lines]
    if "" in lines:
        raise DataError(f"{table}: line {lines.index('') + 1} has no caption. Add it; every line counts.")
    numbers = [NUMBER.search(name.rpartition("/")[2]) for name in names]
    rows = [int(next(filter(None, found.groups()))) if found else -1 for found in numbers]
    if len(set(rows)) < min(len(lines), len(rows)) or not all(0 <= row < len(lines) for row in rows):
        places = {row: place for place, row in enumerate(sorted(rows))}  # "10" comes after "9"
        rows = [places[row] for row in rows] if len(places) == len(rows) else list(range(len(names)))
        if len(lines) != len(names):
            raise DataError(
                f"{table}: {len(lines)} captions for {len(names)} motions. Give one line a motion, or a table by name."
            )
    return [lines[row] for row in rows]


def _twin(file: Path, ending: str) -> Path | None:
    """The file of which one with this ending is another form: NAME, or T2M-GPT's NAME_pred."""
    stem = file.stem
    if not stem.endswith(ending):
        return None
    plain = file.with_name(stem.removesuffix(ending))
    predicted = plain.with_name(f"{plain.name}_pred")
    return predicted if predicted.with_suffix(file.suffix).is_file() else plain


def _file(path: Path) -> Iterator[Stored]:
    if path.suffix.lower() == ".npz":
        yield from _archive(path)
    elif path.suffix.lower() == ".npy":
        caption = IN_NAME.match(path.stem)
        if _is_pickled(path):
            for number, (where, text, joints) in enumerate(read_results(path)):
                yield Stored(where, f"{number}", text, joints)
        else:
            yield Stored(str(path), path.stem, caption and caption.group(1), load_array(path))
    elif path.suffix.lower() == ".bvh":
        yield Stored(str(path), path.stem, None, path=path)
    else:
        raise DataError(f"{path}: {path.suffix or 'a file without a suffix'} is not read here. {GIVE}")


def _is_pickled(path: Path) -> bool:
    """Whether a .npy file holds an object, as MDM's results do."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
                return False
            file.seek(0)
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            return version in header and header[version](file)[2].hasobject
    except (ValueError, EOFError):
        return False


def _archive(path: Path) -> Iterator[Stored]:
    """Clips of a pack, or the motion of an .npz file."""
    try:
        with open_archive(path) as archive:
            names = set(archive.files)
            if {"positions", "offsets", "names"} <= names:
                pass  # a pack, below
            elif {"poses", "trans"} <= names or "pose_body" in names:
                raise DataError(f"{path}: SMPL parameters, not joints. Convert them first: adaqf prepare amass.")
            else:
                key = next((key for key in ARRAYS if key in names), None)
                if key is None:
                    raise DataError(
                        f"{path}: holds {', '.join(sorted(names)) or 'nothing'}, expected one of {', '.join(ARRAYS)}."
                    )
                array, caption = archive[key], None
                if "caption" in names and archive["caption"].dtype.kind == "U" and archive["caption"].size == 1:
                    caption = str(archive["caption"].item())
                if not np.issubdtype(array.dtype, np.floating):
                    raise DataError(
                        f"{path}: {key} holds {array.dtype}, expected floats. Save it with .astype('float32')."
                    )
                yield Stored(str(path), path.stem, caption, array)
                return
    except BROKEN_ARCHIVE as error:
        if isinstance(error, DataError):
            raise
        reason = "it holds objects" if "pickle" in str(error) else error
        raise DataError(f"{path}: not a readable .npz file ({reason}). Write it again with numpy.savez.") from error
    positions, clips, offsets, fps = read_pack(path)
    for name, (start, stop) in zip(clips, itertools.pairwise(offsets), strict=True):
        yield Stored(f"{path}: {name}", name, None, positions(start, stop), fps)


def _dataset(folder: Path, notes: list[str]) -> Iterator[Stored]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        split = MotionDataset(folder, "test", DataConfig())
        if split.skeleton is KIT:
            split = MotionDataset(folder, "test", DataConfig(min_frames=24))  # KIT-ML's clips are shorter
    notes += dict.fromkeys(str(warning.message).rstrip(".") for warning in caught)
    notes.append(f"{folder.resolve().name}: the test split of a data set, with the first caption of each item")
    for item in split.items:
        yield Stored(f"{folder}: {item.key}", item.key, item.captions[0], item.vectors)


def prompt_beside(file: Path) -> str | None:
    """The first line of NAME.txt beside a motion, without tokens and segment; None without such a file or line."""
    text = file.with_suffix(".txt")
    if not text.is_file():
        return None
    try:
        return text.read_text(encoding="utf-8-sig").partition("\n")[0].partition("#")[0].strip() or None
    except UnicodeDecodeError as error:
        raise DataError(f"{text}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error


def _table(path: Path, *, required: bool = False) -> dict[str, str]:
    """The first caption of each name; a JSON table may have one caption a name instead of a list."""
    if not required and not path.is_file():
        return {}
    if path.suffix.lower() == ".json" and path.is_file():
        content = read_json(path)
        if all(isinstance(value, str) for value in content.values()):
            return {name: value.strip() for name, value in content.items()}
    return {name: captions[0].text for name, captions in caption_table(path).items()}
