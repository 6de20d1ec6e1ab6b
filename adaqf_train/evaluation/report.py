"""The report of a run: what was scored, on what, with what, as JSON, Markdown and tables on the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adaclip.files import atomic_file, write_json
from adaqf_train.evaluation import columns, extractors_report
from adaqf_train.evaluation.columns import HEADLINE, LEARNED, NAMES, PHYSICAL
from adaqf_train.evaluation.minimal_pairs import void_reason
from adaqf_train.evaluation.protocol import Row
from adaqf_train.evaluation.scores import ATTRIBUTE, COVERAGE, OFFICIAL, UNSEEN

# What the official evaluators give for real motions (20 replications, the whole test set): with anything else, figures
# by these evaluators are not those of the literature.
KNOWN_TRUTH = {"humanml3d": {"r_precision_3": 0.797, "fid": 0.002}, "kit": {"r_precision_3": 0.779, "fid": 0.031}}
TOLERANCE = {"r_precision_3": 0.01, "fid": 0.01}
PAIRS = "minimal_pairs"
WIDE = 8  # columns that no longer fit a terminal of 80


@dataclass(frozen=True)
class Report:
    """Rows of {metric: {"mean", "ci95"}} and the manifest that says how they came about."""

    rows: dict[str, Row]
    manifest: dict[str, object]
    retrieval: dict[str, Row] = field(default_factory=dict)  # of real motions, by judge (`extractors_report`)

    @classmethod
    def of(cls, rows: dict[str, Row], manifest: dict[str, object], retrieval: dict[str, Row] | None = None) -> Report:
        """A report in which the column of minimal pairs is void where real motions say that it means nothing.

        Void figures are None; the ground truth's stays, as the reason.
        """
        reason = void_reason({"accuracy": rows["gt"].get(PAIRS, {"mean": None})["mean"]})
        if reason is not None:
            nothing = {"mean": None, "ci95": None}
            rows = {n: row | {PAIRS: nothing} if n != "gt" and PAIRS in row else row for n, row in rows.items()}
        return cls(rows, manifest | {"minimal_pairs_void": reason}, retrieval or {})

    @property
    def comparable(self) -> bool | None:
        """Whether the official evaluators give real motions what they are known to give; None: they did not score."""
        truth, known = self.rows["gt"], KNOWN_TRUTH[self.manifest["skeleton"]]
        if OFFICIAL + "fid" not in truth:
            return None
        return all(
            abs(truth[OFFICIAL + metric]["mean"] - value) <= TOLERANCE[metric] for metric, value in known.items()
        )

    def save(self, folder: Path) -> None:
        """Writes report.json and report.md."""
        content = {"rows": self.rows, "comparable": self.comparable, "retrieval": self.retrieval, **self.manifest}
        write_json(folder / "report.json", content)
        with atomic_file(folder / "report.md") as staging:
            staging.write_text(self.markdown(), encoding="utf-8")

    def headline(self) -> list[dict[str, str]]:
        """The rows as one table of text, for where there is room for one."""
        return columns.table(self.rows, HEADLINE)

    def attributes(self, prefix: str = "") -> list[dict[str, str]]:
        """Attribute accuracies as text, and the share of the prompts that mention one in which it was understood.

        prefix: `UNSEEN` for the prompts that ask for unseen combinations. Rows of other prompts, such as another
        program's motions have, come with a coverage of their own.
        """
        truth, start = self.rows["gt"], prefix + ATTRIBUTE
        every = dict.fromkeys(name for row in self.rows.values() for name in row)
        named = [name.removeprefix(start) for name in every if name.startswith(start)]
        if not named:
            return []
        # Of unseen combinations R-precision is told as well, where they fill a pool.
        precision = {"R@3": f"{prefix}r_precision_3"} if prefix and f"{prefix}r_precision_3" in truth else {}
        shown = {n: start + n for n in named} | precision
        rows = [
            {"model": NAMES.get(model, model)} | {title: _share(row.get(name)) for title, name in shown.items()}
            for model, row in self.rows.items()
            if any(name in row for name in shown.values())
        ]
        understood = {
            model: {n: _share(row.get(f"{prefix}{COVERAGE}{n}")) for n in shown} for model, row in self.rows.items()
        }
        common = understood["gt"]
        rows.append({"model": "coverage"} | common)
        others = {model: own for model, own in understood.items() if own != common and set(own.values()) != {"–"}}
        return [*rows, *({"model": f"coverage, {NAMES.get(model, model)}"} | own for model, own in others.items())]

    def tables(self, *, brief: bool = False) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """(title, rows as text) of every table, empty where there is nothing. brief: of retrieval, the pools alone."""
        counts = self.manifest
        yield "By the independent evaluator", columns.table(self.rows, LEARNED)
        if OFFICIAL + "fid" in self.rows["gt"]:
            yield "By the official evaluators", columns.table(self.rows, LEARNED, OFFICIAL)
        yield "Physics, measured on the joints", columns.table(self.rows, PHYSICAL)
        yield "Attribute accuracy, measured on the joints without a network", self.attributes()
        unseen = counts["data"]["unseen_items"]
        title = f"The same of combinations that training never shows ({unseen} of {counts['data']['items']} items)"
        yield title, self.attributes(UNSEEN)
        pool = min(counts["config"]["evaluation"]["pool"], counts["data"]["items"])
        chosen = ("pools",) if brief else tuple(extractors_report.SETS)
        yield "Retrieval of real motions (recalls in per cent)", extractors_report.table(self.retrieval, pool, chosen)

    def markdown(self) -> str:
        """The tables with the notes a reader needs."""
        lines = ["# Report", ""]
        for title, rows in self.tables():
            if rows:
                lines += [f"{title}:", "", *columns.markdown(rows), ""]
        return "\n".join([*lines, *(f"* {note}" for note in self.notes()), ""])

    def notes(self) -> Iterator[str]:
        """What the figures are and are not."""
        m, truth = self.manifest, self.rows["gt"]
        of_one = ""
        if m["multimodality"]:
            of_one = "; MultiModality of {texts} texts × {repeats} motions, {pairs} pairs".format(**m["multimodality"])
        yield (
            f"{m['samples']:,} samples of the {m['split']} split (protocol {m['protocol']}), {m['replications']} "
            f"replications, mean ± 95 % CI; pools of {m['pool']}, {m['diversity_pairs']} pairs for diversity{of_one}."
        )
        if m["deviations"]:
            yield f"Not the standard protocol: {'; '.join(m['deviations'])}."
        if m["embedding"] * 4 > m["samples"]:
            yield (
                f"The evaluator's embeddings are {m['embedding']} wide, more than a quarter of the {m['samples']} "
                "samples: covariances are short of full rank, and FID's floor is high."
            )
        if "r_precision_3_extractors" in truth:
            yield (
                "“R@3 by extractors” is the opinion of those that gave the feedback, which a model can learn to please."
            )
        if m["minimal_pairs_void"] and PAIRS in truth:
            yield f"Minimal pairs are void: {m['minimal_pairs_void']}."
        yield from self._against_truth()
        yield (
            "Acceleration and jerk are Wasserstein distances to the real motions' own. Penetration and floating are to "
            "be near the ground truth's: real motions sink in and jump, too. Unmasked skating is GMD's, with padding."
        )
        if self.comparable is False:
            known = KNOWN_TRUTH[m["skeleton"]]
            yield (
                f"**Not comparable** with the literature: the official evaluators give real motions R@3 "
                f"{known['r_precision_3']} and FID {known['fid']}, here "
                f"{truth[OFFICIAL + 'r_precision_3']['mean']:.3f} and {truth[OFFICIAL + 'fid']['mean']:.3f}. Check the "
                "data set, and whose statistics are in use."
            )

    def show(self, console: Console) -> None:
        """Prints the tables; wide ones with a figure a line, so that they fit a narrow terminal."""
        for title, rows in self.tables(brief=True):
            if rows:
                console.print(_on_screen(title, rows))
        for note in self.notes():
            console.print(note, style="dim")

    def _against_truth(self) -> Iterator[str]:
        """R-precision is to be read against the real motions' own."""
        for prefix, scorer in (("", ""), (OFFICIAL, " by the official evaluators")):
            name = f"{prefix}r_precision_3"
            if name not in self.rows["gt"]:
                continue
            truth = self.rows["gt"][name]["mean"]
            deltas = {NAMES.get(n, n): row[name]["mean"] - truth for n, row in self.rows.items() if n != "gt"}
            if deltas:
                told = ", ".join(f"{model} {delta:+.3f}" for model, delta in deltas.items())
                yield f"R@3 against the ground truth's{scorer}: {told}."
            above = [
                NAMES.get(n, n)
                for n, row in self.rows.items()
                if n != "gt" and any(row[k]["mean"] > self.rows["gt"][k]["mean"] for k in _precisions(prefix))
            ]
            if above:
                yield f"R-precision above the ground truth's ({', '.join(above)}) is suspect, not a success."


def _precisions(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}r_precision_{k}" for k in (1, 2, 3))


def _share(figure: Mapping[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['mean']:.3f}"


def _on_screen(title: str, rows: list[dict[str, str]]) -> Table:
    """A row a model; where that would be wide, a column a model."""
    grid = Table(title=title)
    head, *names = rows[0]
    if len(names) < WIDE and "±" not in "".join(rows[0].values()):
        grid.add_column()
        for name in names:
            grid.add_column(name, justify="right")
        for row in rows:
            grid.add_row(*row.values())
        return grid
    grid.add_column()
    for row in rows:
        grid.add_column(row[head], justify="right")
    for name in names:
        grid.add_row(name, *(row[name] for row in rows))
    return grid
