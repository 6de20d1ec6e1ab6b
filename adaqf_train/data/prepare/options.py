"""Options of single files: axis that points up, frames to skip, frame rate and joint map.

For a file, a value in the captions table wins, then options.json of its folder, then of the folders above, then the
command line. options.json is an object such as {"up": "z", "skip": 1, "fps": 30, "map": "cmu"}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from adaclip.files import FileError, parse_json, read_bytes
from adaqf_train.errors import DataError
from adaqf_train.motion.mapping import load_map
from adaqf_train.motion.orientation import Up

FILE = "options.json"
NAMES = ("map", "skip", "up", "fps")


@dataclass(frozen=True)
class Options:
    """What is stated about a file; None: nothing is, so that defaults apply and doubtful files are refused."""

    map: str | None = None  # a preset's name, or a JSON file
    skip: int | None = None  # frames to leave out at the start
    up: Up | None = None  # axis that points up
    fps: float | None = None  # frames per second

    def but(self, others: Mapping[str, object]) -> Options:
        """These options with others, which win."""
        return replace(self, **others)

    def given(self) -> dict[str, object]:
        """The options that are stated."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def checked(values: Mapping[str, object], where: str) -> dict[str, object]:
    """Options as read from JSON or as words of CSV, as numbers where they are; DataError begins with `where`."""
    found: dict[str, object] = {}
    for name, value in values.items():
        if name not in NAMES:
            raise DataError(f"{where}{name}: no such option. Options are {', '.join(NAMES)}.")
        word = value.strip() if isinstance(value, str) else value
        if word is None or word == "":
            continue
        if name == "up":
            if word not in get_args(Up):
                raise DataError(f"{where}up {word}: give one of {', '.join(get_args(Up))}.")
            found[name] = word
        elif name == "map":
            if not isinstance(word, str):
                raise DataError(f"{where}map {word}: give a preset's name or a JSON file.")
            found[name] = word
        else:
            found[name] = _number(name, word, where)
    return found


def of_files(
    source: Path, files: Mapping[str, Path], table: Mapping[str, Mapping[str, object]], general: Options
) -> dict[Path, Options]:
    """The options of each file.

    source: the folder in which options.json files are looked for. table: options by clip name. general: those of the
    command line.
    """
    checked(asdict(general), "--")
    for name in table.keys() & files.keys():
        _check_map(table[name], f"captions of {name}: ")
    by_folder: dict[Path, Options] = {}

    def of_folder(folder: Path) -> Options:
        if folder not in by_folder:
            above = general if folder == source else of_folder(folder.parent)
            by_folder[folder] = above.but(_of_file(folder / FILE))
        return by_folder[folder]

    return {path: of_folder(path.parent).but(table.get(name, {})) for name, path in files.items()}


def _of_file(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = parse_json(read_bytes(path), path)
    except FileError as error:
        raise DataError(f'{error} Write an object such as {{"up": "z"}}.') from error
    if not isinstance(content, dict):
        raise DataError(f'{path}: holds a {type(content).__name__}. Write an object such as {{"up": "z"}}.')
    found = checked(content, f"{path}: ")
    if "map" in found and str(found["map"]).lower().endswith(".json"):
        found["map"] = str(path.parent / str(found["map"]))  # relative to the folder that names it
    _check_map(found, f"{path}: ")
    return found


def _check_map(options: Mapping[str, object], where: str) -> None:
    """Raise DataError that begins with `where` if a map is neither a preset nor a sound file."""
    try:
        if "map" in options:
            load_map(str(options["map"]))
    except DataError as error:
        raise DataError(f"{where}{str(error).removeprefix('--')}") from error


def _number(name: str, value: object, where: str) -> float | int:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if name == "skip" and number.is_integer() and number >= 0:
        return int(number)
    if name == "fps" and 0 < number < math.inf:
        return number
    expected = "0 or more frames" if name == "skip" else "a frame rate above 0"
    shown = f"{value:g}" if isinstance(value, float) else value
    raise DataError(f"{where}{name} {shown}: give {expected}.")
