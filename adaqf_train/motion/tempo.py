"""How fast hands and feet move: whether a clip plays at the speed of people."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Hands and feet of real clips oscillate with 2 to 25 rad/s. A clip counts as slow or fast only if two or three figures
# say so, which none of 2,832 captures does; of the same captures played four times too slow or fast, 43 % are found.
SLOW, GENTLE, WIDE = 2.0, 4.0, 0.3  # 1/s, m/s², m: slow and gentle, over a distance that people cross in less time
HASTY, QUICK = 20.0, 6.0  # 1/s, m/s


class Tempo(NamedTuple):
    """How hands and feet move about the root, in metres and seconds."""

    frequency: float  # 1/s, accelerations over speeds, root mean squares
    speed: float  # m/s, of the fastest in all but 5 % of the frames
    acceleration: float  # m/s², likewise
    reach: float  # m, the largest extent of a path along an axis

    @property
    def slow(self) -> bool:
        """Whether people are not that slow."""
        return self.frequency < SLOW and self.acceleration < GENTLE and self.reach > WIDE

    @property
    def plausible(self) -> bool:
        """Whether people move like this."""
        return not self.slow and not (self.frequency > HASTY and self.speed > QUICK)


def measure(limbs: np.ndarray, fps: float) -> Tempo:
    """Measure paths (T, L, 3), T >= 4, metres about the root, at about 20 frames per second."""
    velocity = np.diff(limbs, axis=0) * fps
    acceleration = np.diff(velocity, axis=0) * fps
    speeds, pulls = (np.linalg.norm(values, axis=-1) for values in (velocity, acceleration))
    frequency = float(np.sqrt(np.square(pulls).sum() / max(np.square(speeds).sum(), 1e-12)))
    speed, pull = (float(np.percentile(values.max(axis=-1), 95)) for values in (speeds, pulls))
    return Tempo(frequency, speed, pull, reach=float(np.ptp(limbs, axis=0).max()))
