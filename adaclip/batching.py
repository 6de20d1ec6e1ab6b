"""Which prompts are encoded together."""

from __future__ import annotations

from collections.abc import Sequence


def sub_batches(lengths: Sequence[int], *, rows: int, tokens: int) -> list[list[int]]:
    """Positions of `lengths`, grouped for encoding: neighbours in length together, the longest first.

    lengths: tokens of each prompt. A group has at most `rows` prompts, and at most `tokens` tokens when padded to
    its longest (a single prompt may exceed that). Longest first, so that running out of memory shows at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    groups: list[list[int]] = []
    for position in order:
        # The first of a group is its longest: it is what the others are padded to.
        if groups and len(groups[-1]) < rows and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= tokens:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups
