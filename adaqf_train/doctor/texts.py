"""Checks of the caption files: unreadable or repeated captions, and segments outside their clip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from adaqf_train.data.clips import ClipFiles
from adaqf_train.data.layout import TEXTS, Caption, parse_caption
from adaqf_train.doctor.findings import Examination
from adaqf_train.errors import DataError

BOM = "\ufeff"
LATE = 0.5  # seconds by which a segment may exceed its clip; the official segments are rounded


def check_texts(found: Examination, files: ClipFiles) -> dict[str, list[Caption]]:
    """Note faults of the caption files in texts/ or texts.zip; return the readable captions by clip name."""
    captions: dict[str, list[Caption]] = {}
    unreadable, not_utf8, malformed, empty, marked, repeated = ([] for _ in range(6))
    try:
        names = sorted(files.captioned)
    except DataError as error:  # the archive itself
        names, unreadable = [], [str(error).rstrip(".")]
    for name in names:
        file, content = f"{name}.txt", b""
        try:
            content = files.text(name)
            text = content.decode("utf-8")
        except DataError as error:
            unreadable.append(str(error).rstrip("."))
            text = ""
        except UnicodeDecodeError as error:
            not_utf8.append(f"{file} (byte {error.start})")
            text = content.decode("utf-8", errors="replace")
        if text.startswith(BOM):
            marked.append(file)
        captions[name] = []
        for number, line in enumerate(text.removeprefix(BOM).splitlines(), start=1):
            try:
                captions[name] += [parse_caption(line)] if line.strip() else []
            except ValueError as error:
                malformed.append(f"{file}, line {number}: {error}".rstrip("."))
        if not captions[name]:
            empty.append(file)
        common = Counter(caption.text.lower() for caption in captions[name]).most_common(1)
        repeated += [f"{file} ({text[:40]!r})" for text, count in common if count > 1]
    found.error("captions that cannot be read", unreadable, "Restore them from the distributed data set.")
    found.error(f"{TEXTS} contains files that are not UTF-8", not_utf8, "Save them as UTF-8.")
    correct = "Write caption#word/POS word/POS#from#to, or remove them."
    found.error(f"{TEXTS} contains malformed lines", malformed, correct)
    add = "Add at least one line, or remove the clips from the split lists."
    found.error(f"{TEXTS} contains files without a caption", empty, add)
    found.warning(f"{TEXTS} contains files with a byte order mark", marked, "Save them as UTF-8 without it.")
    found.warning("a clip has the same caption twice", repeated, "Remove the repetition: it counts double.")
    return captions


def describe(found: Examination, captions: Mapping[str, list[Caption]]) -> None:
    """Add facts about the captions, and the share of captions that several clips have."""
    texts = [caption.text for of_clip in captions.values() for caption in of_clip]
    if not texts:
        return
    words = np.array([len(text.split()) for text in texts])
    clips = Counter(text for of_clip in captions.values() for text in dict.fromkeys(c.text.lower() for c in of_clip))
    shared = sum(count for count in clips.values() if count > 1) / sum(clips.values())
    found.facts["captions"] = len(texts)
    found.facts["captions_a_clip"] = round(len(texts) / len(captions), 2)
    found.facts["words_a_caption"] = {"median": int(np.median(words)), "max": int(words.max())}
    found.facts["segments"] = sum(c.segment is not None for of_clip in captions.values() for c in of_clip)
    found.facts["captions_shared_by_clips"] = round(shared, 3)
    common = [f"{text[:60]!r} ({count} clips)" for text, count in clips.most_common() if count > 1]
    remedy = "None needed: training masks equal captions, but R-precision counts them as mistakes."
    found.note(f"{shared:.1%} of the captions belong to several clips", common, remedy)


def check_segments(found: Examination, captions: Mapping[str, list[Caption]], fps: float) -> None:
    """Note segments that begin or end after their clip."""
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
    remedy = "Correct the times, which are seconds, not frames, or check the clips' frame rate."
    found.warning("captions of a segment that begins after its clip has ended: they are ignored", beyond, remedy)
    found.note("captions of a segment that ends after its clip", late, "None needed: they are cut at the clip's end.")
