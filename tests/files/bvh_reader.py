"""An independent reader of BVH files, in the two ways in which programs understand position channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation


def joints_of(path: Path, *, add_offsets: bool = False) -> dict[str, np.ndarray]:
    """Positions (T, 3) of each joint. add_offsets: position channels move a joint from its OFFSET, as in three.js."""
    head, motion = path.read_text().split("MOTION\n")
    rows = np.array([line.split() for line in motion.splitlines()[2:]], dtype=float)
    assert f"Frames: {len(rows)}\n" in motion
    columns = iter(rows.T)
    above: list[tuple[np.ndarray, Rotation]] = [(np.zeros((len(rows), 3)), Rotation.identity(len(rows)))]
    places, name, offset = {}, "", np.zeros(3)
    for line in head.splitlines():
        match line.split():
            case ["ROOT" | "JOINT", name] | ["End", name]:
                pass
            case ["OFFSET", *numbers]:
                offset = np.array(numbers, float)
                if name == "Site":
                    above.append(above[-1])
            case ["CHANNELS", _, *channels]:
                values = {channel: next(columns) for channel in channels}
                shift = np.tile(offset, (len(rows), 1))
                for axis, letter in enumerate("XYZ"):
                    if (position := f"{letter}position") in values:
                        shift[:, axis] = values[position] + (offset[axis] if add_offsets else 0)
                turns = [channel for channel in channels if channel.endswith("rotation")]
                angles = np.stack([values[channel] for channel in turns], axis=1)
                turn = Rotation.from_euler("".join(channel[0] for channel in turns), angles, degrees=True)
                place, orientation = above[-1]
                places[name] = place + orientation.apply(shift)
                above.append((places[name], orientation * turn))
            case ["}"]:
                above.pop()
    return places
