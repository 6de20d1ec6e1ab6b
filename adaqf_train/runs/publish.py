"""A finished run's adapter, whose model card quotes the run's report, or a generator, ready for the Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaclip import AdaCLIP
from adaclip.card import CardDetails
from adaclip.integrity import read_sealed, sha256_of
from adaqf_train.artefacts import CONFIG
from adaqf_train.config import POCKET_BASE, RunConfig
from adaqf_train.data.prepare.procedural_sets import is_procedural
from adaqf_train.errors import RunError
from adaqf_train.evaluation.columns import COLUMNS, Figure
from adaqf_train.evaluation.report import MARKDOWN
from adaqf_train.generators.base import MotionGenerator
from adaqf_train.runs.layout import ADAQF, RunLayout, read_config

PROCEDURAL = "procedural-motions"
DATA = {"humanml3d": "HumanML3D", "kit": "KIT-ML"}
NO_TERMS = "The training motions are procedural: no third party's terms apply to them."
LICENCE = "apache-2.0"  # of this project, and of what it makes from its own data and its own base
TERMS = (
    "HumanML3D is made of AMASS and HumanAct12: AMASS's licence allows non-commercial scientific research only. KIT-ML "
    "is under the terms of the KIT Whole-Body Human Motion Database, Bandai Namco's motion data under CC BY-NC 4.0. "
    "Weights that were trained on such data are under their terms as well, whatever the licence of the code."
)


@dataclass(frozen=True)
class Publishable:
    """An adapter or a generator, with what its card says."""

    model: AdaCLIP | MotionGenerator
    details: CardDetails
    folder: Path  # where the model lies
    hub: Path  # where a dry run writes

    def write(self, repo_id: str) -> Path:
        if isinstance(self.model, AdaCLIP):
            return self.model.save_for_hub(self.hub, repo_id, details=self.details)
        return self.model.save_pretrained(self.hub, details=self.details, repo_id=repo_id)


def publishable(folder: Path, licence: str | None = None, data: Sequence[str] = ()) -> Publishable:
    """The adapter of a finished run's folder, or the generator of a generator's folder of any family.

    licence: of the weights, by the Hub's name for it. data: names of the training data; none: the recipe's, or those
    that the generator's encoder records.
    """
    run = RunLayout(folder)
    if run.config.is_file() or not (folder / CONFIG).is_file():
        details = _details(folder, licence, data)
        return Publishable(AdaCLIP.from_pretrained(run.adaclip), details, run.adaclip, run.hub)
    generator = MotionGenerator.from_pretrained(folder)
    known, whole = generator.encoder.details, folder.resolve()
    details = CardDetails(licence or known.license, tuple(data) or known.datasets, known.metrics, terms=TERMS)
    if not data and _is_procedural(whole.parent, known.datasets):
        licence = details.license or (LICENCE if RunLayout(whole.parent).pocket_clip.is_dir() else None)
        details = replace(details, license=licence, datasets=(PROCEDURAL,), terms=NO_TERMS)
    return Publishable(generator, details, folder, whole.with_name(f"{whole.name}-hub"))


def finished(folder: Path) -> tuple[RunLayout, RunConfig, dict]:
    """A run with an adapter and a report about it, its configuration, and report.json.

    RunError if it has no adapter or no report, or one of them changed.
    """
    run, (config, _) = RunLayout(folder), read_config(folder)
    if not run.adaclip.is_dir():
        raise RunError(f"{run.adaclip}: there is no adapter. Train one: adaqf train --arm adaqf --out {folder} …")
    again = f"Run: adaqf evaluate --run {folder}"
    for path in (run.report, run.report_text):
        if not path.is_file():
            raise RunError(f"{path}: missing, and a card must say what the adapter can do. {again}")
    for stage in ("pocket_clip", ADAQF):
        run.verified(stage)
    report = read_sealed(run.report, again)
    if report.pop(MARKDOWN, sha := sha256_of(run.report_text)) != sha:
        raise RunError(f"{run.report_text}: changed since it was written (its SHA-256 differs). {again}")
    return run, config, report


def figures(row: Mapping[str, Figure]) -> dict[str, float]:
    """The means of a report's row, for a card."""
    means = {metric: row[metric]["mean"] for metric in COLUMNS if metric in row}
    return {metric: round(mean, 4) for metric, mean in means.items() if mean is not None}


def _details(folder: Path, licence: str | None, data: Sequence[str]) -> CardDetails:
    """What a card says of a run's adapter; RunError if the run has no adapter or no report about it, or one changed."""
    run, config, manifest = finished(folder)
    again = f"Run: adaqf evaluate --run {folder}"
    try:
        metrics, recipe = figures(manifest.pop("rows")[ADAQF]), manifest["config"]["recipe"]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{run.report}: has no figures of this run's adapter ({error}). {again}") from error
    if recipe != config.recipe:
        raise RunError(f"{run.report}: of the recipe {recipe}, this run's is {config.recipe}. {again}")
    names = tuple(data) or ((DATA[recipe],) if recipe in DATA else ())
    terms = TERMS
    if not data and _is_procedural(folder):
        names, terms = (PROCEDURAL,), NO_TERMS
        licence = licence or (LICENCE if config.encoder.base == POCKET_BASE else None)
    lines = run.report_text.read_text(encoding="utf-8").replace("# Report", "## Results", 1).splitlines()
    report = "\n".join(line for line in lines if not line.startswith("![")).strip()  # figures are not uploaded
    more = (
        f"{report}\n\n## How it was made\n\nSamples, seeds, seconds of each stage, versions and the whole "
        "configuration:\n\n<details><summary>manifest</summary>\n\n"
        f"```json\n{json.dumps(_without_folders(manifest), indent=1, sort_keys=True)}\n```\n\n</details>"
    )
    return CardDetails(licence, names, metrics, more, terms)


def _is_procedural(run: Path, recorded: Sequence[str] = ()) -> bool:
    """Whether a run's data are procedural, by their origin; without access to the run or its data, by the records."""
    if not RunLayout(run).config.is_file():
        return tuple(recorded) == (PROCEDURAL,)
    config, data = read_config(run)
    try:
        if data.is_dir():
            return is_procedural(data)
    except OSError:  # another user's
        pass
    return config.recipe == "demo"


def _without_folders(content: object) -> object:
    """The same with only the last part of each path: a published card does not reveal a machine's folders."""
    if isinstance(content, Mapping):
        return {key: _without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_folders(value) for value in content]
    if isinstance(content, str) and Path(content).is_absolute():
        return Path(content).name
    return content
