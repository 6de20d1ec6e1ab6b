"""Cache all clips of a folder in one memory-mapped file, so that 29,228 files are read only once.

The cache is .adaclip_cache/ in the data folder, or a folder in $ADACLIP_CACHE. It holds

vectors-TOKEN.npy   the features of all clips, one after the other: (frames, D) float32
index.json          a hash of the rest, then the folder's key and each clip's rows, digest and captions

The cache does not depend on split lists and statistics: all splits share it, and editing a list costs nothing. A clip
that fails a check is omitted; reading its file gives the reason. The index is written last and records the size and
times of the vectors, so a stale, damaged or incomplete cache is detected and built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from adaclip.files import atomic_file, parse_json, read_bytes, remove_partial
from adaqf_train.data.clips import Clip, ClipFiles, stamp_of
from adaqf_train.data.layout import Caption
from adaqf_train.errors import DataError

HIDDEN, PLACE = ".adaclip_cache", "ADACLIP_CACHE"
INDEX, LOCK, VECTORS = "index.json", ".lock", "vectors-{}.npy"
OURS = re.compile(VECTORS.format("[0-9a-f]{16}"))
VERSION = 1  # of the format; a cache of another version is built again
TICK = 0.02  # seconds; the time stamps of file systems are at worst 10 ms apart


class CachedClips:
    """The clips of an open cache; it pickles as the path of its file."""

    def __init__(self, path: Path, entries: dict[str, list]) -> None:
        self.path, self._entries = path, entries
        # A plain array over the map: slicing numpy's memmap class takes four times as long.
        self.rows = np.asarray(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Clip | None:
        """The clip, with a view into the map as its features; None for a clip that cannot be used."""
        if name not in self._entries:
            return None
        start, frames, digest, captions = self._entries[name]
        return Clip(
            self.rows[start : start + frames],
            tuple(Caption(text, segment and tuple(segment)) for text, segment in captions),
            digest,
        )

    def span(self, vectors: np.ndarray) -> tuple[int, int] | None:
        """First row and end of a view into the map; None for any other array."""
        start, beyond = divmod(vectors.ctypes.data - self.rows.ctypes.data, self.rows.strides[0])
        stop = start + len(vectors)
        return (start, stop) if start >= 0 and stop <= len(self.rows) and not beyond else None

    def __reduce__(self) -> tuple:
        return _reopen, (self.path,)


def load(files: ClipFiles, features: int) -> CachedClips | None:
    """Open the cache of these files; None unless it is complete and up to date."""
    place = place_of(files.folder)
    _check_place(files.folder, place)
    try:
        index = _read_index(place)
        path = place / index["vectors"]
        if index["key"] != _key(files, features) or tuple(index["stamp"]) != stamp_of(path):
            return None
        return CachedClips(path, index["clips"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def build(files: ClipFiles, features: int, wanted: Sequence[str]) -> CachedClips | None:
    """Write the cache and open it; None, with a warning, where it cannot be written.

    wanted: clips that must be usable; DataError for the first that is not, and nothing is stored. Of several processes
    one builds the cache, and the others wait.
    """
    place = place_of(files.folder)
    _check_place(files.folder, place)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / LOCK):
            if (found := load(files, features)) is not None:
                return found  # another process built it
            _write(place, files, features, wanted)
            if (found := load(files, features)) is None:
                raise OSError("the written cache cannot be read back")
            return found
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        warnings.warn(
            f"{place}: the cache of the motions cannot be written ({getattr(error, 'strerror', None) or error}), so "
            f"every start reads all files. Set {PLACE} to a folder on a disk with free space.",
            stacklevel=3,
        )
        return None


def place_of(folder: Path) -> Path:
    """The place of a data folder's cache."""
    if not (root := os.environ.get(PLACE)):
        return folder / HIDDEN
    folder = folder.resolve()
    return Path(root) / f"{folder.name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def _check_place(folder: Path, place: Path) -> None:
    """Raise DataError for a cache in the data folder that leads elsewhere: data of strangers could name any folder."""
    for path in (place, place / INDEX, place / LOCK) if place == folder / HIDDEN else ():
        if path.is_symlink():
            raise DataError(
                f"{path}: a symbolic link, so the cache would be written elsewhere. Delete it; to keep caches in "
                f"another place, set {PLACE} to a folder."
            )


def _read_index(place: Path) -> dict:
    """The index of a cache; ValueError if it is damaged or another program's."""
    expected, _, content = read_bytes(place / INDEX).partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != expected:
        raise ValueError(f"{place / INDEX}: damaged")
    index = parse_json(content, place / INDEX)
    if not isinstance(index, dict) or not OURS.fullmatch(str(index.get("vectors"))):
        raise ValueError(f"{place / INDEX}: names no vectors")
    return index


def _reopen(path: Path) -> CachedClips:
    try:
        return CachedClips(path, {})
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the cache has been rebuilt. Start the command again.") from error


def _key(files: ClipFiles, features: int) -> str:
    return f"{VERSION} {features} {files.fingerprint}"


def _write(place: Path, files: ClipFiles, features: int, wanted: Sequence[str]) -> None:
    """Write the cache, the wanted clips first. The caller holds the lock."""
    remove_partial(place)  # of incomplete caches
    for path in place.iterdir():  # stale caches: names that only this module gives, and no links
        if (path.name == INDEX or OURS.fullmatch(path.name)) and not path.is_symlink():
            with suppress(OSError):  # Windows keeps mapped files
                path.unlink()
    # A file that changes right after it was read must get a stamp that differs from the one in the key.
    wait = files.last_change() + TICK - time.time()
    if 0 < wait <= TICK:
        time.sleep(wait)
    must = set(wanted)
    names = [*dict.fromkeys(wanted), *sorted((files.motions.keys() & files.captioned) - must)]
    vectors, clips, rows = place / VECTORS.format(secrets.token_hex(8)), {}, 0
    try:
        with atomic_file(vectors) as staging, staging.open("r+b") as file:
            _write_header(file, rows, features)
            for name in tqdm(names, desc="Caching motions", unit="clip", leave=False, delay=1):
                try:
                    clip = files.read(name, features)
                except DataError:
                    if name in must:
                        raise
                    continue
                file.write(clip.vectors)
                captions = [(caption.text, caption.segment) for caption in clip.captions]
                clips[name] = (rows, len(clip.vectors), clip.digest, captions)
                rows += len(clip.vectors)
            file.seek(0)
            _write_header(file, rows, features)
            file.flush()
            os.fsync(file.fileno())
        index = {"key": _key(files, features), "vectors": vectors.name, "stamp": stamp_of(vectors), "clips": clips}
        content = json.dumps(index).encode()
        with atomic_file(place / INDEX) as staging:
            staging.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    except BaseException:
        vectors.unlink(missing_ok=True)
        raise


def _write_header(file, rows: int, features: int) -> None:
    """Write a .npy header; numpy reserves space for more rows, so it can be rewritten at the end."""
    descr = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": descr, "fortran_order": False, "shape": (rows, features)}
    np.lib.format.write_array_header_1_0(file, header)
