"""Archives of arrays (.npz), read once their sizes and headers have been checked."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from adaclip.files import check_regular
from adaqf_train.data.clips import BROKEN_ARRAY, MOST_ARRAY, check_header

MOST_ENTRIES = 1000
SMALL, RATIO = 64 << 20, 100  # bytes that any archive may unpack to, and how much more than its size a larger one may

# Errors for files that are no such archive; RuntimeError for encrypted ones and unknown kinds of compression.
BROKEN_ARCHIVE = (*BROKEN_ARRAY, RuntimeError, zlib.error, lzma.LZMAError, struct.error)


def open_archive(path: Path) -> np.lib.npyio.NpzFile:
    """Open an .npz file, whose arrays are read when they are used.

    Raises:
        FileNotFoundError: There is no such file.
        One of BROKEN_ARCHIVE: It is no archive of arrays, or would unpack to far more than its size. Arrays may
            raise them, too.
    """
    check_regular(path)
    size = path.stat().st_size
    if _entries(path) > MOST_ENTRIES:  # listing them takes seconds
        raise ValueError(f"it has more than {MOST_ENTRIES:,} arrays")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > MOST_ARRAY or total > SMALL + RATIO * size:
            raise ValueError(f"it unpacks to {total:,} bytes")
        for entry in entries:
            with archive.open(entry) as file:
                check_header(file, entry.file_size)
    return np.load(path, allow_pickle=False)


def _entries(path: Path) -> int:
    """The number of files in an archive by its last record, or 0 if it has none."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 22 + 0xFFFF), os.SEEK_END)
        tail = file.read()
    record = tail[tail.rfind(b"PK\5\6") :]
    return int.from_bytes(record[10:12], "little") if record[:2] == b"PK" else 0
