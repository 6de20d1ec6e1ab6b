"""Writes a study's page: tables, figures, verdicts, and the command that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from adaclip.files import atomic_file
from adaqf_train.studies import figures, guidance, results, tables
from adaqf_train.studies.metrics import METRICS, ON_VAL
from adaqf_train.studies.results import is_older
from adaqf_train.studies.schema import Study

DRAWN = ("fid", "r_precision_3", "attributes", "minimal_pairs")  # of these, the ones that a study shows; else its first
CURVES = {"fid": "FID on val ↓", "r_precision_3": "R@3 on val ↑"}
STATISTICS = (
    "Means over training seeds, ± half of the 95 % interval by Student's t if there are several seeds. Base, "
    "extractors and evaluator were trained with one seed each. Differences are paired by seed, and bold if the whole "
    "interval lies on one side of zero. A verdict needs {seeds} seeds; every claim is tested by itself. “Power 80 % "
    "from” is the smallest true difference that a paired t-test over as many seeds would find in four of five studies, "
    "if differences vary as much as these: what is undecided may be smaller."
)
OLDER = (
    "These results are of a version that scored every arm at one guidance{guidances}. Feedback acts like guidance, so "
    "FID and R@3 at one guidance compare different points of two curves."
)
CHOSEN = "Each arm's figures are at the guidance that its seeds chose on val. The points of the curves over guidance:"
ALONG = (
    "Along the curves over guidance, means over seeds, linear between the points and never beyond them; intervals are "
    "Student's t with the jackknife's standard error over seeds (for one seed, over replications):"
)


def write_study(study: Study, found: Mapping[str, tables.Results], folder: Path, command: str) -> Path:
    """Write a study's page, NAME.md, and the figures beside it. found: {data set: {arm: {seed: result}}}.

    command: the command that makes the page.
    """
    statistics = STATISTICS.format(seeds=max(2, study.seeds))
    parts = [f"# {study.title}", f"{study.paper} of the paper. {study.note}", statistics]
    parts += [f"```sh\n{command}\n```", _cost(found)]
    for label, arms in found.items():
        parts += [f"## {label}", _older(arms), tables.figures_table(study, arms)]
        parts += [tables.differences_table(study, arms)]
        if points := tables.guidance_table(study, arms):
            parts += [CHOSEN, points]
        if along := tables.along_table(study, arms):
            parts += [ALONG, along]
        parts += [
            tables.convergence_table(study, arms),
            tables.ways_table(study, arms),
            tables.levels_table(study, arms),
        ]
        if study.metrics != ON_VAL and any(result.curve for by_seed in arms.values() for result in by_seed.values()):
            on_val = replace(study, metrics=ON_VAL)
            parts += ["On val, means of the last three points of each curve:"]
            parts += [tables.figures_table(on_val, arms), tables.differences_table(on_val, arms)]
        parts += _figures(study, folder, label, arms)
    if verdicts := tables.verdicts_table(study, found):
        parts += ["## Claims" if study.paper == "Not part" else "## The paper's claims", verdicts]
    if paper := tables.paper_table(study):
        parts += ["## The paper's figures", paper]
    path = folder / f"{study.name}.md"
    with atomic_file(path) as staging:
        staging.write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")
    return path


def _figures(study: Study, folder: Path, label: str, arms: tables.Results) -> list[str]:
    """Draw the figures of a data set; the Markdown that shows them."""
    drawn = [name for name in DRAWN if name in study.metrics] or study.metrics[: len(DRAWN)]
    shown = {name: METRICS[name][0] for name in drawn}
    values, curves = {}, {}
    for name, arm in study.arms.items():
        found = arms.get(name, {})
        by_metric = {metric: list(results.by_seed(found, metric).values()) for metric in shown}
        values[arm.title] = {metric: by_seed for metric, by_seed in by_metric.items() if by_seed}
        curves[arm.title] = list(found.values())
    lines = []
    name = f"{study.name}-{label}-guidance.png"
    if guidance.draw(folder / name, {arm.title: arms.get(name, {}) for name, arm in study.arms.items()}):
        lines.append(f"![FID against R@3 over guidance, {label}]({name})")
    for kind, draw, *content in (
        ("figures", figures.draw_estimates, values, shown),
        ("curves", figures.draw_curves, curves, CURVES),
    ):
        name = f"{study.name}-{label}-{kind}.png"
        if draw(folder / name, *content):
            lines.append(f"![{kind} of {label}]({name})")
    return lines


def _older(arms: tables.Results) -> str:
    """Say so if the results are of a version without curves over guidance; "" if they are not."""
    found = [result for by_seed in arms.values() for result in by_seed.values()]
    older = [result for result in found if is_older(result)]
    configs = [result.manifest["config"] for result in older if "config" in result.manifest]
    used = sorted({config["sampling"]["guidance"] for config in configs})
    return OLDER.format(guidances=f" ({', '.join(map(str, used))})" if used else "") if older else ""


def _cost(found: Mapping[str, tables.Results]) -> str:
    manifests = [result.manifest for arms in found.values() for by_seed in arms.values() for result in by_seed.values()]
    if not manifests:
        return "No trial has been run yet."
    hours = sum(sum(manifest["seconds"].values()) for manifest in manifests) / 3600
    used = sorted({f"{m.get('machine', 'CPU')}, threads {m['threads']}, torch {m['torch']}" for m in manifests})
    return (
        f"{len(manifests)} trials, some of which other studies share; {hours:.1f} hours without the stages that all "
        f"trials share ({'; '.join(used)})."
    )
