"""List, read and check the clips of a folder in HumanML3D's layout."""

from __future__ import annotations

import hashlib
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from adaclip.files import check_regular, read_bytes
from adaqf_train.data.layout import TEXTS, VECTORS, Caption, parse_lines
from adaqf_train.errors import DataError
from adaqf_train.motion.skeleton import HUMANML3D, KIT

ZIPPED_TEXTS = "texts.zip"  # how HumanML3D ships its captions

MOST_TEXT, MOST_ARRAY = 1 << 20, 1 << 30  # bytes of a text file, and of an array

# Errors of numpy for files that are not arrays; MemoryError where a damaged header claims terabytes.
BROKEN_ARRAY = (
    *(ValueError, EOFError, OSError, SyntaxError, TypeError, KeyError),
    *(MemoryError, OverflowError, RecursionError, zipfile.BadZipFile, tokenize.TokenError),
)

Stamp = tuple[int, int, int]  # size, mtime, ctime


@dataclass(frozen=True)
class Clip:
    """A clip that passed every check."""

    vectors: np.ndarray  # (N, D) float32, read-only, not normalised
    captions: tuple[Caption, ...]
    digest: str  # of the vectors


class ClipFiles:
    """The motion and text files of a data folder; texts come from texts/ or, if it is missing, from texts.zip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.motions = _listed(folder / VECTORS, ".npy")
        self.texts = _listed(folder / TEXTS, ".txt")
        self.archive = folder / ZIPPED_TEXTS if not self.texts and (folder / ZIPPED_TEXTS).is_file() else None

    def motion_path(self, name: str) -> Path:
        return self.folder / VECTORS / f"{name}.npy"

    def text_place(self, name: str) -> str:
        """The place of a clip's captions, whether or not they exist, for messages."""
        if self.archive is None:
            return str(self.folder / TEXTS / f"{name}.txt")
        return f"{self.archive}: {self._entries.get(name, f'{TEXTS}/{name}.txt')}"

    @cached_property
    def captioned(self) -> frozenset[str]:
        """Names of all clips with a text file."""
        return frozenset(self.texts if self.archive is None else self._entries)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the names, sizes and times of all files."""
        hasher = hashlib.sha256(str(self.archive and stamp_of(self.archive)).encode())
        for files in (self.motions, self.texts):
            hasher.update(repr(sorted(files.items())).encode())
        return hasher.hexdigest()

    def last_change(self) -> float:
        """The newest stamp of the files, in seconds since the epoch."""
        stamps = [*self.motions.values(), *self.texts.values(), *([stamp_of(self.archive)] if self.archive else [])]
        return max((changed for _, _, changed in stamps), default=0) / 1e9

    def read(self, name: str, features: int) -> Clip:
        """Read a clip with features of the given width; DataError if it cannot be used."""
        vectors = read_vectors(self.motion_path(name), features)
        return Clip(vectors, self.captions(name), digest_of(vectors))

    def captions(self, name: str) -> tuple[Caption, ...]:
        """The captions of a clip's text file."""
        return tuple(parse_lines(self.text(name), self.text_place(name)))

    def text(self, name: str) -> bytes:
        """The content of a clip's text file."""
        where = self.text_place(name)
        try:
            if self.archive is None:
                return read_bytes(Path(where), MOST_TEXT, DataError)
            with self._open.open(self._entries[name]) as file:
                content = file.read(MOST_TEXT + 1)
        except DataError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            raise DataError(f"{where}: cannot be read ({error}). Restore it from the distributed data set.") from error
        if len(content) > MOST_TEXT:
            raise DataError(f"{where}: more than {MOST_TEXT:,} bytes, too large for captions. Remove it.")
        return content

    @cached_property
    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.archive)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.archive}: not a zip archive ({error}). Download it again, or unzip it.") from error

    @cached_property
    def _entries(self) -> dict[str, str]:
        """Entry of the archive by clip name, without the files that macOS adds (__MACOSX/, ._NAME.txt)."""
        entries: dict[str, str] = {}
        for entry in self._open.namelist():
            path = PurePosixPath(entry)
            if path.suffix != ".txt" or path.name.startswith(".") or "__MACOSX" in path.parts:
                continue
            if path.stem in entries:
                raise DataError(f"{self.archive}: contains {entries[path.stem]} and {entry}. Remove one of them.")
            entries[path.stem] = entry
        return entries


def load_array(path: Path) -> np.ndarray:
    """Load a .npy file of floats; DataError if it is missing, pickled, truncated or of another type."""
    try:
        check_array_size(path)
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: missing. Is {path.parent} a HumanML3D-layout folder?") from None
    except DataError:
        raise
    except BROKEN_ARRAY as error:
        # For unknown content numpy suggests unpickling, which is unsafe.
        reason = "not an array of numbers" if "pickle" in str(error) else error
        raise DataError(f"{path}: not a readable .npy file ({reason}). Write it again with numpy.save.") from error
    if not isinstance(array, np.ndarray) or not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{path}: dtype {getattr(array, 'dtype', 'archive')}, expected floats. Save it with .astype('float32')."
        )
    return array


def check_array_size(path: Path) -> None:
    """ValueError if a .npy file's header claims more than the file holds: numpy would reserve the memory first."""
    check_regular(path, DataError)
    size = path.stat().st_size
    if size > MOST_ARRAY:
        raise DataError(f"{path}: {size:,} bytes, more than {MOST_ARRAY:,}. Split it into several files.")
    with path.open("rb") as file:
        check_header(file, size)


def check_header(file: IO[bytes], size: int) -> None:
    """Raise ValueError if the header of an array in a file of `size` bytes claims more than the file holds."""
    if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
        return  # numpy says what it is
    file.seek(0)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size - file.tell():
        raise ValueError(f"its header claims {dtype} of shape {shape}, more than the file holds")


def load_statistics(path: Path, widths: Sequence[int] = (HUMANML3D.features, KIT.features)) -> np.ndarray:
    """Load means or deviations (D,) of features; DataError if they cannot normalise."""
    array = load_array(path)
    if array.ndim != 1 or len(array) not in widths:
        expected = " or ".join(f"({width},)" for width in widths)
        raise DataError(f"{path}: shape {array.shape}, expected {expected}. Compute or download it again.")
    if not np.isfinite(array).all() or (path.name.lower().endswith("std.npy") and (array <= 0).any()):
        raise DataError(f"{path}: contains values that cannot normalise. Compute or download it again.")
    return array


def digest_of(vectors: np.ndarray) -> str:
    """A short hash of C-contiguous features."""
    return hashlib.blake2b(vectors, digest_size=16).hexdigest()


def stamp_of(file: Path | os.DirEntry) -> Stamp:
    """The stamp by which a change of the file is detected."""
    status = file.stat()
    # Copying tools may reset mtime but not ctime, so a change of equal size is detected, too.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_vectors(path: Path, features: int) -> np.ndarray:
    """Read features (N, D) as float32, read-only; DataError if they cannot be used."""
    vectors = load_array(path)
    if vectors.ndim == 3 and vectors.shape[-1] == 3:
        raise DataError(f"{path}: joint positions {vectors.shape}. Convert them with: adaqf prepare joints SRC OUT.")
    if vectors.ndim != 2 or vectors.shape[1] != features:
        width = f"{vectors.shape[1]} features per frame" if vectors.ndim == 2 else f"shape {vectors.shape}"
        remedy = "Raw joints? Convert them with: adaqf prepare joints SRC OUT."
        if vectors.ndim == 2 and vectors.shape[0] == features:
            remedy = "Save the transpose: numpy.save(path, array.T)."
        raise DataError(f"{path}: {width}, expected {features}. {remedy}")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are refused
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        frame = int(np.argwhere(~np.isfinite(vectors))[0][0])
        raise DataError(
            f"{path}: NaN or infinite at frame {frame}. Repair it, or remove the clip from the split lists."
        )
    vectors.setflags(write=False)
    return vectors


def _listed(folder: Path, suffix: str) -> dict[str, Stamp]:
    """Stem and stamp of every file with a suffix in a folder, which may be missing."""
    found = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix) and not entry.name.startswith(".") and entry.is_file():
                    found[entry.name.removesuffix(suffix)] = stamp_of(entry)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return found
