"""Captions on pictures: Pillow's own font, wrapped to a width."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

MORE = "…"


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def wrapped(text: str, size: int, width: float, most: int) -> list[str]:
    """Lines of a text, at most `width` pixels long in that size of the font; what `most` lines cannot hold is cut."""
    length = font(size).getlength
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < most:
        line = words.pop(0)
        while words and length(f"{line} {words[0]}") <= width:
            line += f" {words.pop(0)}"
        lines.append(line)
    if words and lines:
        lines[-1] += MORE
    return [_cut(line, size, width) for line in lines]


def _cut(line: str, size: int, width: float) -> str:
    """The line, without the end that would stick out."""
    if font(size).getlength(line) <= width:
        return line
    low, high = 0, len(line)  # the most characters that fit, with the sign that more would follow
    while low < high:
        middle = (low + high + 1) // 2
        if font(size).getlength(line[:middle] + MORE) <= width:
            low = middle
        else:
            high = middle - 1
    return line[:low] + MORE
