"""Captions as people keep them (JSON, CSV, one text file a clip), checked, and as a mirror turns them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

from adaqf_train.data.layout import Caption, parse_captions
from adaqf_train.errors import DataError

# Longer forms first: "counter clockwise" holds "clockwise".
_MIRRORED_WORDS = {
    "counter-clockwise": "clockwise",
    "counter clockwise": "clockwise",
    "counterclockwise": "clockwise",
    "anti-clockwise": "clockwise",
    "anticlockwise": "clockwise",
    "clockwise": "counterclockwise",
    "leftwards": "rightwards",
    "rightwards": "leftwards",
    "leftward": "rightward",
    "rightward": "leftward",
    "left": "right",
    "right": "left",
}


def mirrored_caption(text: str) -> str:
    """The caption of the mirrored motion: left and right, clockwise and counterclockwise swapped, case kept."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _MIRRORED_WORDS[word.lower()]
        return other.capitalize() if word[0].isupper() else other

    return re.sub(rf"\b(?:{'|'.join(_MIRRORED_WORDS)})\b", swap, text, flags=re.IGNORECASE)


def whole(texts: Iterable[str]) -> tuple[Caption, ...]:
    """Captions that describe all of a clip."""
    return tuple(Caption(text) for text in texts)


def plain_captions(path: Path) -> tuple[Caption, ...]:
    """One caption a line, bare, or all in the official format (whose segments are kept)."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error
    if not lines:
        raise DataError(f"{path}: no captions. Write one a line, or remove the clip.")
    if all(line.count("#") == 3 for line in lines):
        return tuple(parse_captions(path))
    return whole(lines)


def caption_table(path: Path) -> dict[str, tuple[Caption, ...]]:
    """The captions of each clip, from JSON {name: [captions]} or CSV with the columns name and caption.

    CSV may have other columns, which are ignored, and several rows a name. DataError names the file, and the line or
    the clip.
    """
    readers = {".json": _json_table, ".csv": _csv_table}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: captions come as .json, {{name: [captions]}}, or .csv, name and caption.")
    try:
        return {name: whole(texts) for name, texts in readers[path.suffix.lower()](path).items()}
    except FileNotFoundError:
        raise DataError(f"{path}: missing. It maps each clip's name to a list of captions.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error


def _json_table(path: Path) -> dict[str, list[str]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        table = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}). It maps each clip's name to a list of captions.") from error
    if not isinstance(table, dict):
        raise DataError(f"{path}: holds a {type(table).__name__}, expected each clip's name with a list of captions.")
    for name, captions in table.items():
        texts = captions if isinstance(captions, list) else []
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{path}: {name} needs a non-empty list of captions. Add them, or remove the clip.")
    return table


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object whose keys must differ: of equal ones, json would silently keep the last."""
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"{key!r} is there twice")
        table[key] = value
    return table


def _csv_table(path: Path) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = [column.strip().lower() for column in next(rows, [])]
            if not {"name", "caption"} <= set(header):
                raise DataError(f"{path}, line 1: expected a header with the columns name and caption, in commas.")
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {rows.line_num}: {len(row)} columns, expected {len(header)}. "
                        "Put quotes around captions that hold commas."
                    )
                name, caption = (row[header.index(column)].strip() for column in ("name", "caption"))
                if not name or not caption:
                    what = "caption" if name else "name"
                    raise DataError(f"{path}, line {rows.line_num}: the {what} is empty. Write it, or remove the line.")
                table.setdefault(name, []).append(caption)
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}: not CSV ({error}). Correct the line.") from error
    if not table:
        raise DataError(f"{path}: no captions. Write name and caption, one row each.")
    return table
