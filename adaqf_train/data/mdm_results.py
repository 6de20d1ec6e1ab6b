"""The results.npy of MDM's sampling: motions with their texts and lengths, pickled in an object array."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from adaqf_train.data.pickles import LONGEST, read_object_array
from adaqf_train.errors import DataError


class Sampled(NamedTuple):
    """A motion of the file."""

    where: str  # names it in messages
    text: str
    joints: np.ndarray  # (frames, J, 3), floats, a view of the array of all motions


def read_results(path: Path) -> list[Sampled]:
    """Read the results file that MDM's sampling writes with `numpy.save` of a dict: its motions, in order.

    Raises:
        DataError: The file is damaged, holds something else, or its parts do not fit together.
    """
    what, remedy = "a results file of MDM", "Sample it again, or save each motion with numpy.save as NAME.npy."
    content = read_object_array(path, what, remedy)
    missing = [key for key in ("motion", "text", "lengths") if not isinstance(content, dict) or key not in content]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing. Give the results.npy that MDM's sampling writes.")
    motions, texts, lengths = content["motion"], content["text"], content["lengths"]
    if isinstance(lengths, list) and all(type(length) is int for length in lengths):
        lengths = np.array(lengths, dtype=object)
    shape = getattr(motions, "shape", "missing")
    numbers = isinstance(motions, np.ndarray) and motions.dtype.kind == "f" and motions.ndim == 4
    if not numbers or motions.shape[2] != 3 or not isinstance(texts, list) or not isinstance(lengths, np.ndarray):
        raise DataError(f"{path}: motions of shape {shape}, expected joints (N, 22 or 21, 3, frames). {remedy}")
    if not all(isinstance(text, str) for text in texts) or not len(motions) == len(texts) == lengths.size:
        raise DataError(
            f"{path}: motions {shape}, {len(texts)} texts and {lengths.size} lengths do not fit together. {remedy}"
        )
    lengths = lengths.ravel().tolist()
    for number, length in enumerate(lengths):
        if type(length) is not int or not 1 <= length <= motions.shape[3]:
            length = length if type(length) is int and abs(length) < LONGEST else "out of bounds"
            raise DataError(f"{path}, motion {number}: length {length}, expected 1 to {motions.shape[3]}. {remedy}")
    cut = [motion[..., :length].transpose(2, 0, 1) for motion, length in zip(motions, lengths, strict=True)]
    named = [f"{path}, motion {number}" for number in range(len(cut))]
    return [Sampled(*parts) for parts in zip(named, texts, cut, strict=True)]
