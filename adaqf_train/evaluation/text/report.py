"""The benchmark of text encoders: every encoder on every source of contrasts, as a table, JSON and a figure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaclip.files import atomic_file, write_json
from adaqf_train.evaluation.columns import cell, markdown
from adaqf_train.evaluation.plots import COLOURS
from adaqf_train.evaluation.text.contrasts import Contrast, kinds_of, texts_of
from adaqf_train.evaluation.text.distinctions import Figure, score

Scores = dict[str, dict[str, dict[str, Figure]]]  # source -> encoder -> figure


def scores_of(contrasts: Sequence[Contrast], vectors: Mapping[str, np.ndarray]) -> Scores:
    """Score encoders on each source of contrasts. vectors: (N, E) by encoder, in the order of `texts_of(contrasts)`."""
    texts, found = texts_of(contrasts), Scores()
    for source in dict.fromkeys(contrast.source for contrast in contrasts):
        own = [contrast for contrast in contrasts if contrast.source == source]
        found[source] = {name: score(own, dict(zip(texts, rows, strict=True))) for name, rows in vectors.items()}
    return found


def tables(scores: Scores) -> list[tuple[str, list[dict[str, str]]]]:
    """Return titles and formatted rows, a table for each source."""
    return [
        (
            f"Paraphrases told from descriptions of another motion, {source}",
            [{"encoder": name} | {title: cell(figure) for title, figure in row.items()} for name, row in rows.items()],
        )
        for source, rows in scores.items()
    ]


def save(folder: Path, scores: Scores, contrasts: Sequence[Contrast], encoders: Mapping[str, str]) -> None:
    """Write encoders.json, encoders.md and encoders.png. encoders: where each encoder lies, by its label."""
    counts = {
        source: {kind: sum((c.kind, c.source) == (kind, source) for c in contrasts) for kind in kinds_of(contrasts)}
        for source in scores
    }
    write_json(folder / "encoders.json", {"encoders": dict(encoders), "contrasts": counts, "scores": scores})
    lines = ["# Text encoders without motion", ""]
    for title, rows in tables(scores):
        lines += [f"{title}:", "", *markdown(rows), ""]
    lines += [f"* {note}" for note in notes(counts)]
    with atomic_file(folder / "encoders.md") as staging:
        staging.write_text("\n".join([*lines, "", "![The same as a figure](encoders.png)", ""]), encoding="utf-8")
    _draw(folder / "encoders.png", scores)


def notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Explain the figures to a reader."""
    numbers = "; ".join(
        f"{source}: {', '.join(f'{number} {kind}' for kind, number in kinds.items() if number)}"
        for source, kinds in counts.items()
    )
    return [
        f"Contrasts: {numbers}. The share whose anchor is nearer to its paraphrase than to that paraphrase with one "
        "meaning changed; chance is .5.",
        "strict: nearer to the paraphrase than to the anchor with one meaning changed, which shares nearly all words.",
        "difference and sameness: mean cosine distance to the minimal pair and to the paraphrase, as shares of the "
        "distance to descriptions of other motions. An encoder of meaning has a large difference and a small sameness.",
        "± is half of the 95 % interval, from resampled groups of sentences.",
    ]


def _draw(path: Path, scores: Scores) -> None:
    """Draw a panel for each source: accuracy by kind, a bar for each encoder, and chance as a line."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, 3.2 * len(scores)), layout="constrained")
    for axis, (source, rows) in zip(np.atleast_1d(canvas.subplots(len(scores))), scores.items(), strict=True):
        kinds = [name for name in next(iter(rows.values())) if name not in ("strict", "difference", "sameness")]
        width = 0.8 / len(rows)
        for number, (colour, (name, row)) in enumerate(zip(itertools.cycle(COLOURS), rows.items(), strict=False)):
            places = np.arange(len(kinds)) + (number - (len(rows) - 1) / 2) * width
            heights, errors = ([row[kind][part] for kind in kinds] for part in ("mean", "ci95"))
            axis.bar(places, heights, width * 0.92, yerr=errors, color=colour, label=name, error_kw={"linewidth": 0.8})
        axis.axhline(0.5, color="#888888", linewidth=0.8, linestyle="--")
        axis.set(title=source, ylim=(0, 1.05), ylabel="accuracy")
        axis.set_xticks(range(len(kinds)), kinds)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axis.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=8, ncols=min(4, len(labels)))
    with atomic_file(path) as staging:
        canvas.savefig(staging, format="png", dpi=110)
