"""Seeds made of several numbers, so that independent draws never share a stream."""

from __future__ import annotations

import numpy as np


def mix(*parts: int) -> int:
    """One 63-bit seed from non-negative integers; any difference in them gives an unrelated seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1  # numpy 1 shifts no uint64 by an int
