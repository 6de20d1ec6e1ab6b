"""Which prompts are encoded together."""

from __future__ import annotations

from collections.abc import Sequence


def sub_batches(lengths: Sequence[int], *, rows: int, tokens: int | None) -> list[list[int]]:
    """Group prompts of similar length, the longest first, so that a lack of memory shows at once.

    Args:
        lengths: Number of tokens of each prompt.
        rows: Largest number of prompts in a group.
        tokens: Largest number of tokens in a group padded to its longest prompt; a single prompt may exceed it. None
            sets no limit.

    Returns:
        Positions in `lengths` for each group.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # The first prompt of a group is its longest, to whose length the others are padded.
        full = not groups or len(groups[-1]) == rows
        if full or (tokens is not None and lengths[groups[-1][0]] * (len(groups[-1]) + 1) > tokens):
            groups.append([])
        groups[-1].append(position)
    return groups
