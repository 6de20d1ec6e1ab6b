"""Read and check captions from JSON, CSV or text files, and mirror them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path

from adaclip.files import check_regular, read_bytes
from adaqf_train.data.layout import MOST_LINES, Caption, parse_lines, text_lines
from adaqf_train.data.prepare.options import NAMES, checked
from adaqf_train.errors import DataError

# Longer forms come first: "counter clockwise" contains "clockwise".
_COUNTERCLOCKWISE = ("counter-clockwise", "counter clockwise", "counterclockwise", "anti-clockwise", "anticlockwise")
_MIRRORED_WORDS = dict.fromkeys(_COUNTERCLOCKWISE, "clockwise") | {"clockwise": "counterclockwise"}
for _ending in ("wards", "ward", ""):
    _MIRRORED_WORDS |= {f"left{_ending}": f"right{_ending}", f"right{_ending}": f"left{_ending}"}


def mirrored_caption(text: str) -> str:
    """The caption of the mirrored motion: left/right and clockwise/counterclockwise are swapped, case is kept."""

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        other = _MIRRORED_WORDS[word.lower()]
        return other.capitalize() if word[0].isupper() else other

    return re.sub(rf"\b(?:{'|'.join(_MIRRORED_WORDS)})\b", swap, text, flags=re.IGNORECASE)


def whole(texts: Iterable[str]) -> tuple[Caption, ...]:
    """Captions that describe the whole clip."""
    return tuple(Caption(text) for text in texts)


def plain_captions(path: Path) -> tuple[Caption, ...]:
    """Read one caption per line, all bare or all in the official format with its segments."""
    lines = text_lines(path)
    if not lines:
        raise DataError(f"{path}: no captions. Write one per line, or remove the clip.")
    if all(line.count("#") == 3 for line in lines):
        return tuple(parse_lines(path.read_bytes(), str(path)))
    return whole(lines)


def caption_table(path: Path) -> dict[str, tuple[Caption, ...]]:
    """Read captions by clip name; see `table_of`."""
    return table_of(path)[0]


def table_of(path: Path) -> tuple[dict[str, tuple[Caption, ...]], dict[str, dict[str, object]]]:
    """Read captions and options by clip name, from JSON or CSV; DataError names the line or the clip.

    JSON is {name: [captions]} or {name: {"captions": [captions], "up": "z", …}}; CSV has the columns name and caption,
    several rows per name if need be, and may have columns for options (`options.NAMES`) and others.
    """
    read = {".json": _json_table, ".csv": _csv_table}.get(path.suffix.lower())
    if read is None:
        raise DataError(f"{path}: expected captions as .json ({{name: [captions]}}) or .csv (name, caption).")
    try:
        texts, options = read(path)
        return {name: whole(captions) for name, captions in texts.items()}, options
    except FileNotFoundError:
        raise DataError(f"{path}: missing. It maps each clip's name to a list of captions.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start}). Save the file as UTF-8.") from error


def _json_table(path: Path) -> tuple[dict[str, list[str]], dict[str, dict[str, object]]]:
    text = read_bytes(path, MOST_LINES, DataError).decode("utf-8-sig")
    try:
        table = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}). It maps each clip's name to a list of captions.") from error
    if not isinstance(table, dict):
        raise DataError(f"{path}: holds a {type(table).__name__}, expected each clip's name with a list of captions.")
    options = {}
    for name, value in table.items():
        if isinstance(value, dict):
            options[name] = checked({k: v for k, v in value.items() if k != "captions"}, f"{path}: {name}: ")
            table[name] = value.get("captions")
        captions = table[name]
        texts = captions if isinstance(captions, list) else []
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{path}: {name} needs a non-empty list of captions. Add them, or remove the clip.")
    return table, options


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object with unique keys; json would silently keep the last of equal ones."""
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"{key!r} occurs twice")
        table[key] = value
    return table


def _csv_table(path: Path) -> tuple[dict[str, list[str]], dict[str, dict[str, object]]]:
    table: dict[str, list[str]] = {}
    options: dict[str, dict[str, object]] = {}
    check_regular(path, DataError)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = [column.strip().lower() for column in next(rows, [])]
            if not {"name", "caption"} <= set(header):
                raise DataError(f"{path}, line 1: expected a header with the columns name and caption.")
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {rows.line_num}: {len(row)} columns, expected {len(header)}. "
                        "Put quotes around captions that contain commas."
                    )
                name, caption = (row[header.index(column)].strip() for column in ("name", "caption"))
                if not name or not caption:
                    what = "caption" if name else "name"
                    raise DataError(f"{path}, line {rows.line_num}: the {what} is empty. Write it, or remove the line.")
                table.setdefault(name, []).append(caption)
                where = f"{path}, line {rows.line_num}"
                stated = checked(
                    {column: row[header.index(column)] for column in NAMES if column in header}, f"{where}: "
                )
                known = options.setdefault(name, {})
                for option, value in stated.items():
                    if known.setdefault(option, value) != value:
                        raise DataError(f"{where}: {name} has another {option} above. Give one value for each file.")
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}: not CSV ({error}). Correct the line.") from error
    if not table:
        raise DataError(f"{path}: no captions. Write one row with name and caption for each.")
    return table, options
