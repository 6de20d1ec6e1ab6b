"""The caption files: what cannot be read, what is said twice, and segments that lie outside their clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from adaqf_train.data.clips import ClipFiles
from adaqf_train.data.layout import TEXTS, Caption, parse_caption
from adaqf_train.doctor.findings import Examination
from adaqf_train.errors import DataError

BOM = "\ufeff"
LATE = 0.5  # seconds by which a segment may end after its clip; upstream's lists are rounded


def text_files(found: Examination, files: ClipFiles) -> dict[str, bytes]:
    """The bytes of the caption files by clip name, out of texts/ or texts.zip; notes those that cannot be read."""
    contents: dict[str, bytes] = {}
    unreadable: list[str] = []
    try:
        for name in sorted(files.captioned):
            try:
                contents[name] = files.text(name)
            except DataError as error:
                contents[name] = b""
                unreadable.append(str(error).rstrip("."))
    except DataError as error:  # the archive itself
        unreadable.append(str(error).rstrip("."))
    found.add("error", "captions that cannot be read", unreadable, "Restore them from the data set as distributed.")
    return contents


def check_texts(found: Examination, texts: Mapping[str, bytes]) -> dict[str, list[Caption]]:
    """Notes what is wrong with caption files; returns the captions that can be read, by clip name."""
    captions: dict[str, list[Caption]] = {}
    not_utf8, malformed, empty, marked, repeated = [], [], [], [], []
    for name, content in texts.items():
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            not_utf8.append(f"{name}.txt (byte {error.start})")
            text = content.decode("utf-8", errors="replace")
        if text.startswith(BOM):
            marked.append(f"{name}.txt")
            text = text.removeprefix(BOM)
        captions[name] = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                captions[name].append(parse_caption(line))
            except ValueError as error:
                malformed.append(f"{name}.txt, line {number}: {error}".rstrip("."))
        if not captions[name]:
            empty.append(f"{name}.txt")
        twice = [text for text, count in Counter(c.text.lower() for c in captions[name]).items() if count > 1]
        repeated += [f"{name}.txt ({text[:40]!r})" for text in twice[:1]]
    found.add("error", f"{TEXTS} holds files that are not UTF-8", not_utf8, "Save them as UTF-8.")
    found.add(
        "error", f"{TEXTS} holds malformed lines", malformed, "Write caption#word/POS word/POS#from#to, or remove them."
    )
    found.add(
        "error",
        f"{TEXTS} holds files without a caption",
        empty,
        "Add at least one line, or take the clips out of the split lists.",
    )
    found.add("warning", f"{TEXTS} holds files with a byte order mark", marked, "Save them as UTF-8 without one.")
    found.add("warning", "a clip has the same caption twice", repeated, "Remove the repetition: it counts double.")
    return captions


def describe(found: Examination, captions: Mapping[str, list[Caption]]) -> None:
    """Facts about the captions, and how many clips share one."""
    texts = [caption.text for of_clip in captions.values() for caption in of_clip]
    if not texts:
        return
    words = np.array([len(text.split()) for text in texts])
    clips = Counter(text for of_clip in captions.values() for text in {c.text.lower() for c in of_clip})
    shared = sum(count for count in clips.values() if count > 1) / sum(clips.values())
    found.facts["captions"] = len(texts)
    found.facts["captions_a_clip"] = round(len(texts) / len(captions), 2)
    found.facts["words_a_caption"] = {"median": int(np.median(words)), "max": int(words.max())}
    found.facts["segments"] = sum(c.segment is not None for of_clip in captions.values() for c in of_clip)
    found.facts["captions_shared_by_clips"] = round(shared, 3)
    common = [f"{text[:60]!r} ({count} clips)" for text, count in clips.most_common() if count > 1]
    found.add(
        "note",
        f"{shared:.1%} of the captions belong to several clips",
        common,
        "R-precision takes each of them for a mistake; the training masks equal captions.",
    )


def check_segments(found: Examination, captions: Mapping[str, list[Caption]], fps: float) -> None:
    """Segments that begin or end after their clip."""
    beyond, late = [], []
    for name, clip in found.clips.items():
        seconds = clip.frames / fps
        for caption in captions.get(name, ()):
            start, stop = caption.segment or (0.0, 0.0)
            place = f"{name}.txt ({start:g} to {stop:g} of {seconds:.1f} s)"
            if caption.segment and start >= seconds:
                beyond.append(place)
            elif stop > seconds + LATE:
                late.append(place)
    found.add(
        "warning",
        "captions of a segment that begins after its clip has ended: they are left out",
        beyond,
        "Correct the seconds (not frames), or check the clips' frame rate.",
    )
    found.add("note", "captions of a segment that ends after its clip", late, "Nothing: it is cut at the clip's end.")
