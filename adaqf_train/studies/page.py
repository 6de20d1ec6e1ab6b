"""A study's page: tables, figures, verdicts, and how to make them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from adaclip.files import atomic_file
from adaqf_train.studies import figures, results, tables
from adaqf_train.studies.definitions import Study
from adaqf_train.studies.metrics import METRICS, ON_VAL

DRAWN = ("fid", "r_precision_3", "attributes", "minimal_pairs")  # where a study shows these; else its first metrics
CURVES = {"fid": "FID on val ↓", "r_precision_3": "R@3 on val ↑"}


def write_study(study: Study, found: Mapping[str, tables.Results], folder: Path, command: str) -> Path:
    """Writes folder/NAME.md and the figures beside it. found: {data set: {arm: {seed: result}}}."""
    lines = [f"# {study.title}", "", f"{study.paper} of the paper. {study.note}", "", _statistics(study), ""]
    lines += [f"```sh\n{command}\n```", "", _cost(found), ""]
    for label, arms in found.items():
        lines += [f"## {label}", "", tables.figures_table(study, arms), ""]
        if differences := tables.differences_table(study, arms):
            lines += [differences, ""]
        for table in (tables.convergence_table, tables.levels_table):
            if told := table(study, arms):
                lines += [told, ""]
        if study.metrics != ON_VAL and any(result.curve for by_seed in arms.values() for result in by_seed.values()):
            on_val = replace(study, metrics=ON_VAL)
            lines += ["On val, means of the last three points of each curve:", ""]
            lines += [tables.figures_table(on_val, arms), "", tables.differences_table(on_val, arms), ""]
        lines += _figures(study, folder, label, arms)
    if verdicts := tables.verdicts_table(study, found):
        lines += ["## The paper's claims", "", verdicts, ""]
    if paper := tables.paper_table(study):
        lines += ["## The paper's figures", "", paper, ""]
    path = folder / f"{study.name}.md"
    with atomic_file(path) as staging:
        staging.write_text("\n".join(lines), encoding="utf-8")
    return path


def _figures(study: Study, folder: Path, label: str, arms: tables.Results) -> list[str]:
    drawn = [name for name in DRAWN if name in study.metrics] or study.metrics[: len(DRAWN)]
    shown = {name: METRICS[name][0] for name in drawn}
    values = {
        arm.title: {
            metric: list(by_seed.values())
            for metric in shown
            if (by_seed := results.by_seed(arms.get(name, {}), metric))
        }
        for name, arm in study.arms.items()
    }
    curves = {arm.title: list(arms.get(name, {}).values()) for name, arm in study.arms.items()}
    lines = []
    for kind, draw in (
        ("figures", lambda path: figures.draw_estimates(path, values, shown)),
        ("curves", lambda path: figures.draw_curves(path, curves, CURVES)),
    ):
        name = f"{study.name}-{label}-{kind}.png"
        if draw(folder / name):
            lines += [f"![{kind} of {label}]({name})", ""]
    return lines


def _statistics(study: Study) -> str:
    return (
        "Means over training seeds, ± half the 95 % interval of Student's t where there are several; base, extractors "
        "and evaluator are one draw each. Differences are paired by seed, and bold where the whole interval lies on "
        f"one side of zero. A verdict asks for {study.seeds} seeds and at least two; every claim is tested by itself."
    )


def _cost(found: Mapping[str, tables.Results]) -> str:
    manifests = [result.manifest for arms in found.values() for by_seed in arms.values() for result in by_seed.values()]
    if not manifests:
        return "No trial has been run yet."
    hours = sum(sum(manifest["seconds"].values()) for manifest in manifests) / 3600
    used = sorted({f"{m.get('machine', 'CPU')}, threads {m['threads']}, torch {m['torch']}" for m in manifests})
    return (
        f"{len(manifests)} trials, {hours:.1f} hours in their own stages, those that other studies share included "
        f"({'; '.join(used)})."
    )
