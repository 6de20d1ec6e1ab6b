"""The report of a run: figures and how they were obtained, as JSON, as Markdown and on the screen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adaclip.files import atomic_file
from adaclip.integrity import sha256_of, write_sealed
from adaqf_train.evaluation import columns, curve_report, retrieval
from adaqf_train.evaluation.columns import COLUMNS, FLOOR, LEARNED, NAMES, PHYSICAL, YARDSTICKS, Figure
from adaqf_train.evaluation.curves import FID, PRECISION, ArmCurve
from adaqf_train.evaluation.power import deviation_of, smallest_difference
from adaqf_train.evaluation.protocol import Row
from adaqf_train.evaluation.scores import ATTRIBUTE, COVERAGE, JOINTS, OFFICIAL, UNSEEN

# Figures of the official evaluators on real motions (20 replications, the whole test split). With other values, their
# other figures do not compare with the literature either.
KNOWN_TRUTH = {"humanml3d": {"r_precision_3": 0.797, "fid": 0.002}, "kit": {"r_precision_3": 0.779, "fid": 0.031}}
MARKDOWN = "report.md"  # also the key of its digest in report.json
TOLERANCE = {"r_precision_3": 0.01, "fid": 0.01}
PAIRS = "minimal_pairs"
EXTRACTORS = "r_precision_3_extractors"
JUDGES = {"": "", JOINTS: " by the second evaluator", OFFICIAL: " by the official evaluators"}  # by their prefix
LEAST_TRUTH = 0.9  # accuracy on real motions, below which the evaluator itself does not distinguish the captions


@dataclass(frozen=True)
class Report:
    """Rows of {figure: {"mean", "ci95"}} and the manifest that states how they were obtained."""

    rows: dict[str, Row]
    manifest: dict[str, object]
    retrieval: dict[str, dict[str, Row]] = field(default_factory=dict)  # of real motions (`retrieval.retrieve_real`)
    curves: dict[str, ArmCurve] = field(default_factory=dict)  # over guidance, of the models that have one

    @classmethod
    def of(
        cls,
        rows: dict[str, Row],
        manifest: dict[str, object],
        retrieval: dict[str, dict[str, Row]] | None = None,
        curves: dict[str, ArmCurve] | None = None,
    ) -> Report:
        """Make a report, in which minimal pairs are void (None) if the ground truth shows that they mean nothing.

        The ground truth's own figure stays, as the reason.
        """
        reason = void_reason(rows["gt"].get(PAIRS, {"mean": None})["mean"])
        if reason is not None:
            void = {"mean": None, "ci95": None}
            rows = {n: row | {PAIRS: void} if n != "gt" and PAIRS in row else row for n, row in rows.items()}
        return cls(rows, manifest | {"minimal_pairs_void": reason}, retrieval or {}, curves or {})

    @property
    def comparable(self) -> bool | None:
        """Whether the official evaluators reproduce their known figures on real motions; None if they are not used."""
        truth, known = self.rows["gt"], KNOWN_TRUTH[self.manifest["skeleton"]]
        if OFFICIAL + "fid" not in truth:
            return None
        return all(abs(truth[OFFICIAL + name]["mean"] - value) <= TOLERANCE[name] for name, value in known.items())

    @property
    def power(self) -> dict[str, dict[str, float]]:
        """What the replications can tell apart: {figure: deviation, replications, smallest difference at 80 %}.

        The deviation is the root mean square of the models' deviations over replications. Figures without spread, and
        reports of one replication, have none.
        """
        n, found = self.manifest["replications"], {}
        models = [row for name, row in self.rows.items() if name not in YARDSTICKS]
        for name in (FID, PRECISION) if n > 1 else ():
            widths = [row[name]["ci95"] for row in models if name in row and row[name]["ci95"]]
            if widths:
                deviation = math.sqrt(sum(deviation_of(width, n) ** 2 for width in widths) / len(widths))
                smallest = smallest_difference(deviation, n)
                found[name] = {"deviation": deviation, "replications": n, "smallest_difference": smallest}
        return found

    def save(self, folder: Path) -> None:
        """Write report.json, report.md and, if there are curves, their figure."""
        content = {"rows": self.rows, "comparable": self.comparable, "retrieval": self.retrieval, **self.manifest}
        comparisons = {name: found.as_dict() for name, found in curve_report.compared(self.curves)[1].items()}
        content |= {"power": self.power, "curves": {name: curve.as_dict() for name, curve in self.curves.items()}}
        if self.curves:
            curve_report.draw(folder / curve_report.FIGURE, self.curves)
        with atomic_file(folder / MARKDOWN) as staging:
            staging.write_text(self.markdown(), encoding="utf-8")
        content |= {"along_curves": comparisons, MARKDOWN: sha256_of(folder / MARKDOWN)}
        write_sealed(folder / "report.json", content)

    def attributes(self, prefix: str = "") -> list[dict[str, str]]:
        """Format attribute accuracies, and their coverage: the share of captions whose attribute the rules understand.

        A row for each model is followed by one for the ground truth's coverage, and one for each model whose captions,
        and thus coverage, differ. prefix: `UNSEEN` for the captions of unseen combinations.
        """
        start, absent = prefix + ATTRIBUTE, "–"
        names = dict.fromkeys(name for row in self.rows.values() for name in row if name.startswith(start))
        if not names:
            return []
        shown = {name.removeprefix(start): name for name in names}
        if prefix and f"{prefix}r_precision_3" in self.rows["gt"]:  # they fill a pool
            shown["R@3"] = f"{prefix}r_precision_3"
        if prefix and f"{prefix}fid" in self.rows["gt"]:
            shown["FID"] = f"{prefix}fid"
        accuracies, coverages = {}, {}
        for model, row in self.rows.items():
            if model in YARDSTICKS[1:]:  # they have the ground truth's attributes, of other captions
                continue
            accuracies[model] = {title: _mean(row.get(name)) for title, name in shown.items()}
            coverages[model] = {title: _mean(row.get(f"{prefix}{COVERAGE}{title}")) for title in shown}
        rows = [{"model": NAMES.get(m, m)} | own for m, own in accuracies.items() if set(own.values()) != {absent}]
        rows.append({"model": "coverage"} | coverages["gt"])
        for model, own in coverages.items():
            if own != coverages["gt"] and set(own.values()) != {absent}:
                rows.append({"model": f"coverage, {NAMES.get(model, model)}"} | own)
        return rows

    def tables(self, *, brief: bool = False) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """Yield (title, formatted rows) of each table; the rows may be empty. brief: retrieval within pools only."""
        counts = self.manifest
        yield "By the independent evaluator", columns.table(self.rows, LEARNED)
        if JOINTS + "fid" in self.rows["gt"]:
            yield "By the second evaluator, which reads decoded joints", columns.table(self.rows, LEARNED, JOINTS)
        if OFFICIAL + "fid" in self.rows["gt"]:
            yield "By the official evaluators", columns.table(self.rows, LEARNED, OFFICIAL)
        yield from curve_report.tables(self.curves)
        yield "Physics, measured on the joints", columns.table(self.rows, PHYSICAL)
        yield "Attribute accuracy, measured on the joints without a network", self.attributes()
        made, items = counts.get("procedural"), counts["data"]["items"]
        which = f"{made['held_out']} further clips" if made else f"{counts['data']['unseen_items']} of {items} items"
        title = f"The same on combinations that training never shows ({which})"
        yield title, self.attributes(UNSEEN)
        pool = min(counts["config"]["evaluation"]["pool"], counts["data"]["items"])
        chosen = ("pools",) if brief else tuple(retrieval.SETS)
        yield "Retrieval of real motions (recalls in per cent)", retrieval.table(self.retrieval, pool, chosen)

    def markdown(self) -> str:
        notes = [f"* {note}" for note in self.notes()]
        figure = [f"![FID against R@3 over guidance]({curve_report.FIGURE})", ""] if self.curves else []
        return "\n".join(["# Report", "", *columns.sections(self.tables()), *figure, *notes, ""])

    def notes(self) -> Iterator[str]:
        """Yield what a reader must know to interpret the figures."""
        m, truth = self.manifest, self.rows["gt"]
        takes = ""
        if m["multimodality"]:
            takes = "; MultiModality of {texts} texts × {repeats} motions, {pairs} pairs".format(**m["multimodality"])
        yield (
            f"{m['samples']:,} samples of the {m['split']} split (protocol {m['protocol']}), {m['replications']} "
            f"replications, mean ± 95 % CI; pools of {m['pool']}, {m['diversity_pairs']} pairs for diversity{takes}."
        )
        if made := m.get("procedural"):
            yield (
                f"The test set was made for this evaluation: {made['test']:,} procedural clips beside the data set, "
                f"without combinations that training never shows. FID compares with {made['reference']:,} other real "
                f"motions, acceleration and jerk with those {made['test']:,}. Val has {made['val']:,} clips, of "
                "which a fifth are such combinations."
            )
        if m["deviations"]:
            yield f"Not the standard protocol: {'; '.join(m['deviations'])}."
        yield from curve_report.notes(self.curves, m["config"]["evaluation"].get("choose", "none"), m["split"])
        if self.power:
            sizes = (
                f"{COLUMNS[name].split()[0]} {found['smallest_difference']:.3f} (deviation {found['deviation']:.3f})"
                for name, found in self.power.items()
            )
            yield (
                f"Power: with {m['replications']} replications of each model, a two-sided t-test at 5 % has a power of "
                f"80 % for a difference of {', '.join(sizes)}. Deviations are those over replications of the same "
                "weights; training seeds vary more."
            )
        if m["embedding"] * 4 > m["samples"]:
            yield (
                f"The evaluator's embeddings are {m['embedding']} wide, more than a quarter of the {m['samples']} "
                "samples: covariances lack full rank, and the lower bound of FID is high."
            )
        if "r_precision_3_extractors" in truth:
            yield "“R@3 by extractors” is the R-precision of the feedback's extractors, which a model can exploit."
        if FLOOR in self.rows:
            yield (
                f"“{NAMES[FLOOR]}” scores one half of the real motions against the other half: a perfect model is no "
                "closer. Its FID is that of half as many motions; FID∞ and KID do not depend on their number."
            )
        if m["minimal_pairs_void"] and PAIRS in truth:
            yield f"Minimal pairs are void: {m['minimal_pairs_void']}."
        for prefix, judges in JUDGES.items():
            yield from self._against_truth(prefix, judges)
        yield from self._gaps()
        yield (
            "Acceleration and jerk are Wasserstein distances to the distributions of real motions. Figures with an "
            "arrow to the right should be close to the ground truth's: real motions also sink, jump and tremble. "
            "Unmasked skating includes the padding, as in GMD. docs/evaluation.md has the formula of each figure."
        )
        if self.comparable is False:
            known = KNOWN_TRUTH[m["skeleton"]]
            yield (
                "**Not comparable** with the literature: on real motions, the official evaluators should give R@3 "
                f"{known['r_precision_3']} and FID {known['fid']}, but give "
                f"{truth[OFFICIAL + 'r_precision_3']['mean']:.3f} and {truth[OFFICIAL + 'fid']['mean']:.3f}. Check the "
                "data set and the evaluators' statistics."
            )

    def show(self, console: Console) -> None:
        """Print the tables and notes; a table that is too wide for a terminal is transposed."""
        for title, rows in self.tables(brief=True):
            if rows:
                console.print(on_screen(title, rows))
        for note in self.notes():
            console.print(note, style="dim")

    def _against_truth(self, prefix: str, judges: str) -> Iterator[str]:
        """Yield how R-precision compares with that of real motions."""
        precisions = [f"{prefix}r_precision_{k}" for k in (1, 2, 3)]
        truth, models = self.rows["gt"], {NAMES.get(n, n): row for n, row in self.rows.items() if n not in YARDSTICKS}
        if precisions[-1] not in truth or not models:
            return
        deltas = {n: row[precisions[-1]]["mean"] - truth[precisions[-1]]["mean"] for n, row in models.items()}
        yield f"R@3 minus the ground truth's{judges}: {', '.join(f'{n} {d:+.3f}' for n, d in deltas.items())}."
        above = [n for n, row in models.items() if any(row[k]["mean"] > truth[k]["mean"] for k in precisions)]
        if above:
            yield f"R-precision above the ground truth's ({', '.join(above)}) is suspect, not a success."

    def _gaps(self) -> Iterator[str]:
        """Yield the excess of R@3 by the feedback's extractors over each evaluator's, relative to real motions."""
        truth, models = self.rows["gt"], {n: row for n, row in self.rows.items() if n not in YARDSTICKS}
        for prefix, judges in JUDGES.items():
            precision = f"{prefix}r_precision_3"
            known = {n: row for n, row in models.items() if {EXTRACTORS, precision} <= row.keys() & truth.keys()}
            gaps = {n: gap(row, truth, precision) for n, row in known.items()}
            if gaps:
                shown = ", ".join(f"{NAMES.get(n, n)} {value:+.3f}" for n, value in gaps.items())
                whose = judges.removeprefix(" by ") or "the independent evaluator"
                yield f"R@3 by extractors minus R@3 by {whose}, each minus the ground truth's: {shown}."


def gap(row: Row, truth: Row, precision: str) -> float:
    """How much more a row gains by the feedback's extractors than by an evaluator, each relative to real motions.

    precision: the evaluator's R@3. A model that exploits its extractors has a large gap.
    """
    gain = {name: row[name]["mean"] - truth[name]["mean"] for name in (EXTRACTORS, precision)}
    return gain[EXTRACTORS] - gain[precision]


def void_reason(accuracy: float | None) -> str | None:
    """Say why the column of minimal pairs is void, given the accuracy on real motions; None if it is not."""
    if accuracy is None:
        return "no caption of the split has a word to flip"
    if accuracy < LEAST_TRUTH:
        return (
            f"the evaluator prefers the caption to its flipped version for only {accuracy:.2f} of the real motions, "
            f"below {LEAST_TRUTH}"
        )
    return None


def _mean(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure['mean']:.3f}"


def on_screen(title: str, rows: list[dict[str, str]]) -> Table:
    """A row per model, or a column per model if the terminal would be too narrow for the intervals or the columns."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    if len(rows[0]) > 8 or "±" in "".join(lines[1]):
        lines = list(zip(*lines, strict=True))
    grid = Table(title=title)
    for number, name in enumerate(lines[0]):
        grid.add_column("" if number == 0 else name, justify="left" if number == 0 else "right")
    for line in lines[1:]:
        grid.add_row(*line)
    return grid
