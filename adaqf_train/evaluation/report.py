"""The report of a run: what was scored, on what, with what, as JSON, Markdown and a table on the screen."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from adaclip.files import atomic_file, write_json
from adaqf_train.config import RunConfig, to_dict
from adaqf_train.data.dataset import MotionDataset
from adaqf_train.evaluation.protocol import ATTRIBUTE, COVERAGE, OFFICIAL

PACKAGES = ("adaclip", "torch", "transformers", "peft", "accelerate", "diffusers", "numpy")
COLUMNS = {
    "fid": "FID ↓",
    "r_precision_1": "R@1 ↑",
    "r_precision_2": "R@2 ↑",
    "r_precision_3": "R@3 ↑",
    "mm_dist": "MM-dist ↓",
    "diversity": "Diversity →",
    "multimodality": "MModality",
    "skating": "Skating ↓",
    "r_precision_3_extractors": "R@3 by extractors",
}
# What the official evaluators give for real motions (20 replications, the whole test set): with anything else, figures
# by these evaluators are not those of the literature.
KNOWN_TRUTH = {"humanml3d": {"r_precision_3": 0.797, "fid": 0.002}, "kit": {"r_precision_3": 0.779, "fid": 0.031}}
TOLERANCE = {"r_precision_3": 0.01, "fid": 0.01}
NAMES = {"gt": "ground truth", "baseline": "baseline", "adaqf": "AdaQF"}


@dataclass(frozen=True)
class Report:
    """Rows of {metric: {"mean", "ci95"}} and the manifest that says how they came about."""

    rows: dict[str, dict[str, dict[str, float]]]
    manifest: dict[str, object]

    @classmethod
    def of(
        cls,
        rows: dict[str, dict[str, dict[str, float]]],
        config: RunConfig,
        counts: Mapping[str, object],
        dataset: MotionDataset,
        seconds: Mapping[str, float],
        evaluator: str,
    ) -> Report:
        """A report with its manifest. seconds: wall time by stage. evaluator: digest of the one that scored."""
        seeds = {part: getattr(config, part).seed for part in ("training", "extractors", "evaluator", "evaluation")}
        return cls(
            rows,
            {
                **counts,
                "split": dataset.split,
                "skeleton": dataset.skeleton.name,
                "data_fingerprint": dataset.fingerprint(),
                "evaluator": evaluator,
                "replications": config.evaluation.replications,
                "seeds": seeds,
                "seconds": dict(seconds),
                "threads": torch.get_num_threads(),
                "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
                "config": to_dict(config),
            },
        )

    @property
    def comparable(self) -> bool:
        """False when the official evaluators scored, and the real motions do not get what they are known to get."""
        truth, known = self.rows["gt"], KNOWN_TRUTH[self.manifest["skeleton"]]
        return all(
            abs(truth[OFFICIAL + metric]["mean"] - value) <= TOLERANCE[metric]
            for metric, value in known.items()
            if OFFICIAL + metric in truth
        )

    def save(self, folder: Path) -> None:
        """Writes report.json and report.md."""
        write_json(folder / "report.json", {"rows": self.rows, "comparable": self.comparable, **self.manifest})
        with atomic_file(folder / "report.md") as staging:
            staging.write_text(self.markdown(), encoding="utf-8")

    def table(self, prefix: str = "") -> list[dict[str, str]]:
        """The rows as text: the model's name, then a cell a metric. prefix: of the figures' names (`OFFICIAL`)."""
        columns = {prefix + metric: title for metric, title in COLUMNS.items()}
        return [
            {"model": NAMES.get(name, name)}
            | {title: f"{row[m]['mean']:.3f} ± {row[m]['ci95']:.3f}" for m, title in columns.items() if m in row}
            for name, row in self.rows.items()
        ]

    def attributes(self) -> list[dict[str, str]]:
        """Attribute accuracies as text, and the share of the prompts that mention one in which it was understood."""
        named = [name.removeprefix(ATTRIBUTE) for name in self.rows["gt"] if name.startswith(ATTRIBUTE)]
        rows = [
            {"model": NAMES.get(model, model)} | {n: f"{row[ATTRIBUTE + n]['mean']:.3f}" for n in named}
            for model, row in self.rows.items()
            if all(ATTRIBUTE + n in row for n in named)
        ]
        coverage = {n: f"{self.rows['gt'][COVERAGE + n]['mean']:.3f}" for n in named}
        return [*rows, {"model": "coverage"} | coverage] if named else []

    def markdown(self) -> str:
        """The table with the notes a reader needs."""
        lines = ["# Report", "", *_markdown(self.table()), ""]
        if attributes := self.attributes():
            lines += ["Attribute accuracy, measured on the joints without a network:", "", *_markdown(attributes), ""]
        if self._official:
            lines += ["By the official evaluators:", "", *_markdown(self.table(OFFICIAL)), ""]
        return "\n".join([*lines, *self.notes(), ""])

    @property
    def _official(self) -> bool:
        return OFFICIAL + "fid" in self.rows["gt"]

    def notes(self) -> list[str]:
        """What the figures are and are not."""
        m = self.manifest
        notes = [
            f"{m['samples']} samples of the {m['split']} split, {m['replications']} replications, mean ± 95 % CI; "
            f"pools of {m['pool']}, {m['diversity_pairs']} pairs for diversity."
        ]
        if not m["standard"]:
            notes.append("Not the full protocol (20 replications, pools of 32, 300 pairs, the whole split).")
        notes.append(
            "Scored by the independent evaluator; the last column is the opinion of the extractors that gave the "
            "feedback, which a model can learn to please."
        )
        truth = self.rows["gt"]["r_precision_3"]["mean"]
        above = [NAMES.get(name, name) for name, row in self.rows.items() if row["r_precision_3"]["mean"] > truth]
        if above:
            notes.append(f"R-precision above the ground truth's ({', '.join(above)}) is suspect, not a success.")
        deltas = {
            NAMES.get(name, name): row["r_precision_3"]["mean"] - truth
            for name, row in self.rows.items()
            if name != "gt"
        }
        if deltas:
            told = ", ".join(f"{name} {delta:+.3f}" for name, delta in deltas.items())
            notes.append(f"R@3 against the ground truth's: {told}.")
        if not self.comparable:
            known = KNOWN_TRUTH[m["skeleton"]]
            notes.append(
                f"**Not comparable** with the literature: the official evaluators give real motions R@3 "
                f"{known['r_precision_3']} and FID {known['fid']}, here "
                f"{self.rows['gt'][OFFICIAL + 'r_precision_3']['mean']:.3f} and "
                f"{self.rows['gt'][OFFICIAL + 'fid']['mean']:.3f}. Check the data set, and whose statistics are in use."
            )
        return notes

    def show(self, console: Console) -> None:
        """Prints the table, a metric a line, so that it fits a narrow terminal."""
        for prefix, scorer in (("", ""), (OFFICIAL, ", official evaluators"))[: 1 + self._official]:
            rows = self.table(prefix)
            table = Table(title=f"{self.manifest['split']} split, {self.manifest['samples']} samples{scorer}")
            table.add_column()
            for row in rows:
                table.add_column(row["model"], justify="right")
            for title in list(rows[0])[1:]:
                table.add_row(title, *(row[title] for row in rows))
            console.print(table)
        if attributes := self.attributes():
            table = Table(title="attribute accuracy, measured on the joints")
            for title in attributes[0]:
                table.add_column("" if title == "model" else title, justify="right")
            for row in attributes:
                table.add_row(*row.values())
            console.print(table)
        for note in self.notes():
            console.print(note, style="dim")


def _markdown(rows: list[dict[str, str]]) -> list[str]:
    titles = list(rows[0])
    return [
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
        *(f"| {' | '.join(row.values())} |" for row in rows),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the package is used from a checkout
        return "not installed"
